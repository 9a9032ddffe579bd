"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  if (button) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const style = root.style.colorScheme;
      const isDark = style ? style === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.style.colorScheme = isDark ? "light" : "dark";
    });
  }
  const written = (count) => count >= 10 ? Math.round(count).toLocaleString("en") : String(Math.round(count * 10) / 10);
  for (const box of document.querySelectorAll(".explore")) {
    const data = JSON.parse(box.querySelector("script").textContent);
    const slider = box.querySelector("input");
    const said = box.querySelector("output");
    const marker = box.parentElement.querySelector(".marker");
    const show = () => {
      const at = Number(slider.value);
      const r = data.thresholds[at];
      const nulls = Object.entries(data.nulls).map(([name, counts]) => `${data.names[name]} ${written(counts[at])}`);
      said.textContent = `r ≥ ${r.toFixed(2)}: ${written(data.shared[at])} pairs, ` +
        `${written(data.beyond[at])} of them also given the token; nulls: ${nulls.join(", ")}`;
      const place = Number(marker.dataset.left) + Number(marker.dataset.span) *
        (r - Number(marker.dataset.low)) / (Number(marker.dataset.high) - Number(marker.dataset.low));
      marker.setAttribute("x1", place);
      marker.setAttribute("x2", place);
      marker.style.visibility = "visible";
    };
    slider.max = String(data.thresholds.length - 1);
    slider.addEventListener("input", show);
    box.hidden = false;
    show();
  }
})();

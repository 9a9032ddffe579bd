"""Which activations cause what a model says: patching, attribution, ablation, circuits."""

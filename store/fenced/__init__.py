"""Lanes where no lock can be trusted: network file systems and object stores."""

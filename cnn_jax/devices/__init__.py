"""Devices: how processes meet and agree, and how arrays and programs are laid over devices."""

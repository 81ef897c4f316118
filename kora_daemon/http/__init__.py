"""Everything that speaks HTTP: the one port, what is answered under which path, and who may ask."""

"""Who somebody is (auth.md)."""

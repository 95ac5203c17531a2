"""The built-in plugins, made like any third party's; third parties put nothing here."""

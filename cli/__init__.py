"""The `panelgate` command: what an operator uses. Never packaged into a Lambda."""

"""How a hard direction leaves the plateau of training at finite dimension."""

"""Ablation tables: table -> plan -> cells (runner, processes) -> collect -> outcomes, render, pictures -> pages."""

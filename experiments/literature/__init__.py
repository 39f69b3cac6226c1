"""The models that papers tell figures of, and how those figures are read and counted again."""

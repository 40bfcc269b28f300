"""From TOML files to checked definitions, with every mistake placed; and the difference of two registries."""

"""Quantities as people write them and as the API server stores them: for pure tests and for the one that asks a real server."""

KNOWN = [
    ("0.5", "500m"),
    ("1000m", "1"),
    ("1500m", "1500m"),
    ("2000m", "2"),
    ("1", "1"),
    ("1.0", "1"),
    ("0.0001", "100u"),
    ("1000", "1k"),
    ("1500", "1500"),
    ("1024Mi", "1Gi"),
    ("1.5Gi", "1536Mi"),
    ("0.5Ti", "512Gi"),
    ("1200Mi", "1200Mi"),
    ("1023", "1023"),
    ("0.5Ki", "512"),
    ("1000M", "1G"),
    ("1E", "1E"),
    ("0", "0"),
    ("0Gi", "0"),
    ("1.1Ki", "1127"),
]

"""Code inside the PostgreSQL image: standard library only, because the image has nothing else."""

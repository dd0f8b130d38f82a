"""Parts of tools/gpu_kit.py. They travel with a bundle, so that only what packs weights may import torch or dcae."""

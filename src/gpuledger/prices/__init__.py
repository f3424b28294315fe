"""Facts about prices and SKUs: accelerators of instance types, dated list prices, and the texts of SKUs."""

from gpuledger.prices.accelerators import Accelerator, GpuType, accelerator, gpu_type, gpu_types
from gpuledger.prices.points import PricePoint, load_prices, price_at

__all__ = [
    "Accelerator",
    "GpuType",
    "PricePoint",
    "accelerator",
    "gpu_type",
    "gpu_types",
    "load_prices",
    "price_at",
]

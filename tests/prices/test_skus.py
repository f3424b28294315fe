"""SKU texts as data: every pattern can be reached, and names what the tables know."""

import re

import pytest

from gpuledger.models.recognition import recognize
from gpuledger.prices import gpu_types, skus


def test_patterns_are_reachable_and_name_known_models() -> None:
    attached_only = {"P4"}  # to N1 machines; no machine type names it
    models = {known.gpu_model for known in gpu_types()} | attached_only
    for pattern in skus.gpu_sku_patterns():
        assert pattern.needs == pattern.needs.lower()
        re.compile(pattern.pattern)
        if pattern.unit == "gpu-hours":
            assert pattern.gpu_model in models, pattern
            assert pattern.gpu_memory_gib is not None
        else:
            assert pattern.gpu_model is None


def test_ids_are_unique() -> None:
    ids = [pattern.id for pattern in skus.gpu_sku_patterns()]
    assert len(ids) == len(set(ids))
    names = [family.name for family in skus.ai_families()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("family", skus.ai_families(), ids=lambda family: family.name)
def test_token_types_and_tiers_are_the_ledgers(family: skus.AiFamily) -> None:
    assert {kind for _, kind in family.tokens} <= {"input", "output", "cache_read", "cache_write", ""}
    tiers = {"batch", "flex", "priority", "provisioned", "latency-optimized", "training"}
    assert {tier for _, tier in family.tiers} <= tiers
    assert sum(part is not None for part in (family.model, family.strip, family.service)) <= 1
    for literal, _ in (*family.tokens, *family.tiers):
        assert literal == literal.lower()


def test_spellings_are_what_the_query_looks_up() -> None:
    for spelling, model in skus.ai_models().items():
        assert spelling == re.sub(r"[ _-]+", "-", spelling.lower()).strip("-")
        assert model not in skus.ai_models(), "a model's own name needs no alias"


def test_prefilter_lets_every_family_through() -> None:
    for family in skus.ai_families():
        passes = any(need in family.needs or need in family.when for need in skus.ai_needs())
        assert passes or family.name in skus.ai_providers(), family.name
    assert "gpu" in recognize._GPU_NEEDS

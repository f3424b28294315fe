"""What every connector's rows get in the same way: GPU and model recognition, and canonical tags."""

from gpuledger.config import TagsSection
from gpuledger.core import tags
from gpuledger.engines import duckdb
from gpuledger.models import recognition
from gpuledger.prices.accelerators import gpu_types
from gpuledger.prices.skus import ai_models

_TAG_COLUMNS = ("AllocatedTags", "Tags")


def known_aliases(provider: str | None, section: TagsSection | None) -> tags.TagAliases:
    """Return the tag aliases that apply to a provider's rows: the user's, then the defaults."""
    if section is None:
        return tags.aliases(provider)
    extra = {str(name): spellings for name, spellings in section.aliases.items()}
    by_provider = {
        provider_name: {str(name): spellings for name, spellings in table.items()}
        for provider_name, table in section.providers.items()
    }
    return tags.aliases(provider, extra, by_provider)


def identity(provider: str | None, section: TagsSection | None) -> str:
    """Return a text that changes whenever rows would be enriched differently."""
    return repr((known_aliases(provider, section), recognition.recognition_sql(""), gpu_types(), ai_models()))


def enriched(con: duckdb.Connection, relation: str, aliases: tags.TagAliases) -> str:
    """Return a query over `relation` (ledger columns) with recognised and canonical columns filled."""
    recognition.load(con)
    keys = tags.tag_keys(con, relation, _TAG_COLUMNS)
    return recognition.recognition_sql(f"({tags.tagged_sql(relation, aliases, keys, _TAG_COLUMNS)})")

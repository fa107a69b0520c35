"""The model card's front matter, as Hugging Face reads it."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import ModelCard

ROOT = Path(__file__).resolve().parents[2]


def test_the_front_matter_has_the_hubs_fields() -> None:
    card = ModelCard.load(ROOT / "docs" / "README.md")
    data = card.data.to_dict()
    assert data["library_name"] == "monai" and data["pipeline_tag"] == "image-segmentation"
    assert data["license"] == "other" and data["license_name"] and data["license_link"]  # weights are not Apache-2.0
    assert {"monai", "medical"} <= set(data["tags"])
    assert "Not a medical device" in card.text

"""What a model card says, in Markdown and in HTML."""

import json

from deblur.card import card_html, card_markdown, make_card
from deblur.contract import ModelContract
from deblur.registry import RunRecord, Version
from deblur.serving.setting import Setting

CONTRACT = ModelContract(
    architecture="DeblurUNet", base_ch=32, tile=256, overlap=64, train_crop=256,
    metrics={"test_psnr": 30.0}, data_kind="simulated", subset="blur_gamma", data_digest="d" * 64,
    config_digest="c" * 64, code_revision="r" * 40,
)  # fmt: skip
TAGS = {
    "architecture": "DeblurUNet, base_ch 32", "model.parameters": "8636451",
    "model.bytes": "34600000", "contract": json.dumps(CONTRACT.to_metadata()),
    "data.kind": "simulated", "data.subset": "blur_gamma", "data.digest": "d" * 64,
    "data.pairs": '{"train": 104, "val": 8, "test": 12}', "config.digest": "c" * 64,
    "code.revision": "r" * 40, "sha256": "5" * 64, "test_psnr": "30.0000",
    "test_blurred_psnr": "27.5000", "test_ssim": "0.9100", "test_blurred_ssim": "0.8500",
    "training.hours": "1.25", "training.hardware": "2 CPUs",
}  # fmt: skip
RUN = RunRecord({"recipe": "gopro", "learning_rate": "0.001", "workers": "4"}, {}, {})
VERSION = Version("deblur-unet", 7, "run-7", ("candidate",), TAGS, 1.8e9)
SOURCES = "# Sources\n\n| scene | licence |\n|---|---|\n| china | CC-BY-2.0 <by> |\n"
DECISION = {
    "promoted": False, "reason": "flat_field failed", "decided": "2026-01-02T03:04:05",
    "pictures": 12, "scenes": 3, "data": {"split": "test", "digest": "e" * 64},
    "checks": [
        {"name": "flat_field", "value": 7.25, "kind": "at most", "bound": 6.0, "unit": "levels",
         "about": "a | b", "passed": False},
        {"name": "leaked_pairs", "value": None, "kind": "at most", "bound": 0.0, "unit": "pairs",
         "about": "not known", "passed": False},
    ],
}  # fmt: skip


def test_a_card_says_what_the_model_is_and_what_it_is_worth_beside_its_input() -> None:
    text = card_markdown(make_card(VERSION, RUN))
    assert text.startswith("# deblur-unet, version 7\n\nregistered 2027-01-15, candidate\n")
    assert "8,636,451 parameters" in text
    assert "| PSNR, test pictures | 27.50 dB | 30.00 dB | +2.50 dB |\n" in text
    assert "| SSIM, test pictures | 0.8500 | 0.9100 | +0.0600 |\n" in text
    assert "simulated blur, subset blur_gamma" in text
    assert "| pairs | 104 train, 8 val, 12 test |" in text
    assert "| recipe | gopro |" in text and "| learning rate | 0.001 |" in text
    assert "| hours | 1.25 |" in text
    assert "workers" not in text
    assert "34.6 MB" in text
    assert "deblur fetch models:/deblur-unet/7" in text
    assert "r" * 40 in text and "5" * 64 in text
    assert "Not tuned" in text
    assert "Harm, seams" not in text


def test_tuning_and_decision_appear_when_there_are_any() -> None:
    setting = Setting(provider="openvino", precision="bf16", tile=256, overlap=32)
    tags = {
        **TAGS, "serving.setting": setting.model_dump_json(), "exported.test_psnr": "30.0200",
        "tuning.speed_up": "4.500",
    }  # fmt: skip
    tuned = Version("deblur-unet", 7, "run-7", (), tags, 1.8e9)
    text = card_markdown(make_card(tuned, RUN, SOURCES, DECISION))
    assert "| setting | openvino bf16, tiles of 256, overlap 32 |" in text
    assert "| speed up | 4.500 |" in text
    assert "| PSNR, test pictures | 27.50 dB | 30.00 dB | +2.50 dB | 30.02 dB |" in text
    assert "Refused on 2026-01-02T03:04:05: flat_field failed." in text
    assert "| flat_field | 7.25 levels | at most 6 levels | failed | a \\| b |" in text
    assert "| leaked_pairs | not known |" in text
    assert "### Sources" in text


def test_the_page_holds_the_same_and_no_address_outside_it() -> None:
    page = card_html(make_card(VERSION, RUN, SOURCES, DECISION))
    assert "<h1>deblur-unet, version 7</h1>" in page
    assert "<td>27.50 dB</td><td>30.00 dB</td><td>+2.50 dB</td>" in page
    assert '<td class="failed">failed</td>' in page
    assert "<code>deblur serve --model models:/deblur-unet/7</code>" in page
    assert "CC-BY-2.0 &lt;by&gt;" in page
    assert "http" not in page


def test_a_version_of_which_little_is_known_has_a_card_too() -> None:
    text = card_markdown(make_card(Version("deblur-unet", 1, ""), RunRecord({}, {}, {})))
    assert "not recorded" in text

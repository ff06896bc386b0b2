"""The examples run."""

import runpy
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from sklearn import config_context

import sktransfer
from sktransfer.backbones._registry import PROVIDERS

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def folder(tmp_path):
    """Twenty images of various sizes: dark ones in one class, bright in the other."""
    rng = np.random.default_rng(0)
    for label, low in (("bright", 128), ("dark", 0)):
        (tmp_path / label).mkdir()
        for i in range(10):
            values = rng.integers(low, low + 128, (20 + i, 30 - i, 3), dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / label / f"{i}.png")
    return tmp_path


@pytest.mark.slow
def test_choose_the_depth_takes_a_folder(folder, monkeypatch, capsys):
    script = EXAMPLES / "01_start" / "0010_choose_the_depth.py"
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [script.name, str(folder)])
    table = runpy.run_path(str(script))["table"]
    assert table["held out"].between(0, 1).all()
    assert table.set_index("method").loc["features", "held out"] == 1
    assert (folder / "choose_the_depth.png").is_file()
    assert "12 training images, 8 held-out images" in capsys.readouterr().out


@pytest.mark.slow
def test_tiles_in_a_folder_are_classified(monkeypatch, tmp_path):
    script = EXAMPLES / "01_start" / "0020_a_folder_of_images.py"
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(script))
    assert found["accuracy"] > found["raw_accuracy"] + 0.2
    assert (tmp_path / "folder_of_images.png").is_file()


@pytest.mark.slow
def test_ways_to_fine_tune_learn(monkeypatch, tmp_path):
    script = EXAMPLES / "03_fine_tuning" / "0010_ways_to_fine_tune.py"
    monkeypatch.chdir(tmp_path)
    table = runpy.run_path(str(script))["table"]
    assert (table["held out"] > 0.6).all()
    assert (tmp_path / "ways_to_fine_tune.png").is_file()


@pytest.mark.slow
def test_what_a_grid_search_computes_counts(monkeypatch, tmp_path):
    script = EXAMPLES / "02_compute_once" / "0010_what_a_grid_search_computes.py"
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(script))
    assert (names["computed"] == 150).all()
    assert (names["without"] > 300).all() and names["without"].iloc[0] > 10 * 150
    assert list(names["views"].values()) == [5 * 150, 2 * 150, 0]
    assert (tmp_path / "what_a_grid_search_computes.png").is_file()


@pytest.mark.slow
def test_searches_agree(monkeypatch, tmp_path):
    script = EXAMPLES / "02_compute_once" / "0020_four_kinds_of_search.py"
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(script))
    assert (names["table"]["test"] > names["raw"]).all()
    assert names["nested"].mean() <= names["best_score"] + 0.02
    assert (tmp_path / "four_kinds_of_search.png").is_file()


@pytest.mark.slow
def test_more_of_a_rare_class_is_found(monkeypatch, tmp_path):
    script = EXAMPLES / "03_fine_tuning" / "0020_rare_class_and_its_threshold.py"
    monkeypatch.chdir(tmp_path)
    balanced = runpy.run_path(str(script))["table"]["balanced"]
    others = balanced[["probe, balanced weights", "probe, tuned threshold"]]
    assert (others > balanced["probe"]).all()
    assert (others > balanced["raw pixels, regression"]).all()
    assert (tmp_path / "tuned_threshold.png").is_file()


@pytest.mark.slow
def test_regressor_measures_angles(monkeypatch, tmp_path):
    script = EXAMPLES / "03_fine_tuning" / "0030_regression.py"
    monkeypatch.chdir(tmp_path)
    table = runpy.run_path(str(script))["table"]
    baselines = table.drop("fine-tuned")
    assert table.loc["fine-tuned", "R²"] > baselines["R²"].max() + 0.05
    errors = table["mean error in degrees"]
    assert errors["fine-tuned"] < errors.drop("fine-tuned").min()
    assert (tmp_path / "regression.png").is_file()


@pytest.mark.slow
def test_several_labels_are_learned_and_named(monkeypatch, tmp_path):
    script = EXAMPLES / "03_fine_tuning" / "0040_several_labels.py"
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(script))
    accuracy = found["table"]["all labels"]
    assert accuracy["fine-tuned"] > accuracy.drop("fine-tuned").max() + 0.03
    assert list(found["fine_tuned"].classes_) == ["loop", "even", "above 4"]
    assert (tmp_path / "several_labels.png").is_file()


@pytest.mark.slow
def test_training_is_followed(monkeypatch, tmp_path, capsys):
    script = EXAMPLES / "03_fine_tuning" / "0050_follow_a_training.py"
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(script))
    history, accuracy = found["history"], found["accuracy"]
    assert history["balanced_accuracy"].iloc[-1] == pytest.approx(
        accuracy["fine-tuned"], abs=0.02
    )
    assert accuracy["fine-tuned"] > max(accuracy["features"], accuracy["raw pixels"])
    printed = capsys.readouterr()
    assert "freeze='auto' freezes up to 'blocks.1'" in printed.out
    assert "15/15" in printed.err and "valid_loss" in printed.err
    assert (tmp_path / "follow_a_training.png").is_file()


@pytest.mark.slow
def test_method_of_adaptation_that_is_chosen_helps(monkeypatch, tmp_path):
    script = "0010_choose_a_method_without_labels.py"
    monkeypatch.chdir(tmp_path)
    with config_context():  # it switches metadata routing on
        found = runpy.run_path(str(EXAMPLES / "04_adaptation" / script))
    assert found["adapted"] > found["source_only"] + 0.1
    assert found["chosen"] > found["source_only"]
    assert (tmp_path / "domain_gap.png").is_file()
    assert (tmp_path / "choose_a_method.png").is_file()


def test_which_backbone_which_depth(monkeypatch, tmp_path):
    script = EXAMPLES / "05_advice" / "0010_which_backbone_which_depth.py"
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(script))
    assert names["accuracy"] > 0.85
    assert len(names["ranker"].scores_) == 27
    assert (tmp_path / "which_backbone.png").is_file()


@pytest.mark.slow
def test_features_of_texts_need_fewer_labels(monkeypatch, tmp_path):
    script = EXAMPLES / "06_texts" / "0010_classify_texts_with_few_labels.py"
    monkeypatch.chdir(tmp_path)
    table = runpy.run_path(str(script))["display"].table
    assert (table[["features", "fine-tuned"]].min(axis=1) > table["TF-IDF"]).all()
    assert (table["features"] > table["random weights"]).all()
    assert (tmp_path / "classify_texts.png").is_file()


@pytest.mark.slow
def test_a_network_from_a_large_table_helps_on_a_small_one(monkeypatch, tmp_path):
    script = "0010_from_a_large_table_to_a_small_one.py"
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(EXAMPLES / "07_tables" / script))
    mean = found["mean"].drop(columns="pretrained, frozen")
    assert (mean.idxmin(axis=1) == "pretrained, fine-tuned").all()
    gain = found["gain"]["pretrained, fine-tuned"].groupby("draw").mean()
    assert gain.mean() > 2 * gain.sem()
    assert (tmp_path / "from_a_large_table.png").is_file()


@pytest.mark.slow
def test_vectors_of_users_that_are_pretrained_help_a_cold_start(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(EXAMPLES / "07_tables" / "0020_cold_start.py"))
    mean, error = found["mean"], found["error"]
    warm = mean.pop("pretrained senators") - 2 * error.pop("pretrained senators")
    assert (mean + 2 * error).lt(warm, axis=0).all(axis=None)
    assert (tmp_path / "cold_start.png").is_file()


@pytest.mark.slow
def test_columns_of_three_kinds_are_encoded_once(monkeypatch, tmp_path):
    script = EXAMPLES / "07_tables" / "0030_columns_of_three_kinds.py"
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(script))
    assert max(found["encoded"].values()) <= len(found["X"])
    accuracy = found["table"]["mean"]
    assert accuracy["picture + name"] > accuracy[["picture", "name"]].max() + 0.03
    assert (tmp_path / "columns_of_three_kinds.png").is_file()


@pytest.mark.slow
def test_displays_show_what_was_computed(monkeypatch, tmp_path):
    script = EXAMPLES / "08_inspection" / "0010_see_what_was_computed.py"
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(script))
    assert names["chosen"]["score"] == names["search"].best_score_ > 0.9
    assert len(names["history"].phases) == 3
    assert 0 < names["errors"].n_errors < 60
    assert (tmp_path / "depths.png").is_file()


@pytest.mark.slow
def test_explanations_find_planted_patterns(monkeypatch, tmp_path):
    script = EXAMPLES / "08_inspection" / "0020_what_a_prediction_rests_on.py"
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(script))
    assert names["hits"](names["explanations"]) > 0.9
    assert names["hits"](names["random_maps"]) < 0.5
    assert names["shares"] > 0.5
    assert (tmp_path / "nearest.png").is_file()


@pytest.mark.slow
def test_own_network_is_pickled_and_exported(monkeypatch, tmp_path):
    script = EXAMPLES / "09_deployment" / "0010_own_network_and_checkpoint.py"
    monkeypatch.chdir(tmp_path)
    with sktransfer.config_context(), patch.dict(PROVIDERS):
        found = runpy.run_path(str(script))
    accuracy = found["accuracy"]
    baselines = ["raw pixels, regression", "photographs, regression"]
    assert accuracy["fine-tuned"] > accuracy[baselines].max()
    assert found["same"]
    assert len(found["slim"]) < len(found["whole"]) / 10
    assert max(found["difference"].values()) < 1e-5
    assert (tmp_path / "own_network.png").is_file()


@pytest.mark.slow
def test_server_of_an_onnx_file_answers_as_the_model(monkeypatch, tmp_path):
    script = EXAMPLES / "09_deployment" / "0020_serve_an_onnx_file.py"
    monkeypatch.chdir(tmp_path)
    with sktransfer.config_context():
        found = runpy.run_path(str(script))
    assert found["difference"] < 1e-4
    assert found["accuracy"] > found["raw"]
    assert (tmp_path / "served_answers.png").is_file()


@pytest.mark.slow
def test_app_answers_as_the_model(monkeypatch, tmp_path):
    script = EXAMPLES / "09_deployment" / "0030_serve_with_fastapi.py"
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(script))
    assert found["difference"] == 0
    assert found["accuracy"] > found["raw_accuracy"] + 0.3
    assert found["card"]["license"] == "apache-2.0"
    assert found["refused"].status_code == 422
    assert "no image" in found["refused"].json()["detail"]
    assert (tmp_path / "served_with_fastapi.png").is_file()


@pytest.mark.slow
def test_letters_are_recognised_in_new_voices(monkeypatch, tmp_path):
    script = EXAMPLES / "11_audio" / "0010_letters_in_new_voices.py"
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(script))
    table, in_noise = found["table"], found["in_noise"]
    assert table["network"].is_monotonic_increasing
    assert table["network"][10] > table["log-mel statistics"][10] + 0.1
    assert (in_noise["network"] > in_noise["log-mel statistics"] + 0.1).all()
    assert in_noise["network"][0] < in_noise["network"][20] - 0.1
    assert (tmp_path / "letters_in_new_voices.png").is_file()


@pytest.mark.slow
def test_features_find_similar_and_unusual_tiles(monkeypatch, tmp_path):
    script = EXAMPLES / "10_features" / "0010_find_similar_and_unusual.py"
    monkeypatch.chdir(tmp_path)
    table = runpy.run_path(str(script))["table"]
    assert (table.loc["features"] > 0.95).all()
    assert (table.loc["features"] > table.loc["raw pixels"] + 0.2).all()
    assert (tmp_path / "similar_and_unusual.png").is_file()


@pytest.mark.slow
def test_uncertain_images_are_worth_more_labels(monkeypatch, tmp_path):
    script = EXAMPLES / "10_features" / "0020_label_what_is_uncertain.py"
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(script))
    later = found["table"].iloc[3:]
    assert (later["least certain"] > later["at random"] + 0.01).all()
    assert found["counter"].computed["samples"].max() <= len(found["labels"])
    assert (tmp_path / "label_what_is_uncertain.png").is_file()

"""Secrets and the home folder leave every text; all else stays."""

from __future__ import annotations

import html
import itertools
import json
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape
from omegaconf import OmegaConf

import harness
from harness.registry.redaction import HIDDEN, Redaction


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "opensesame-42")
    monkeypatch.setenv("STAGE_KEY", "end")


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("token opensesame-42!", f"token {HIDDEN}!"),
        ("/home/ann/models/x and file:///home/ann", "~/models/x and file://~"),
        ("/home/anna/x, /data/home/ann2", "/home/anna/x, /data/home/ann2"),
        ("https://ann:pass@host/x and https://host/x", f"https://{HIDDEN}@host/x and https://host/x"),
        (f"hf_{'a' * 34} AKIA{'A' * 16}", f"{HIDDEN} {HIDDEN}"),
        (f"sk-ant-{'a1' * 20}", HIDDEN),
        ("https://x/y?api_key=a1&n=3&X-Token=b%20&z=1", f"https://x/y?api_key={HIDDEN}&n=3&X-Token={HIDDEN}&z=1"),
        ("x?a=1&amp;token=abc&amp;n=2", f"x?a=1&amp;token={HIDDEN}&amp;n=2"),
        ("Authorization: Bearer rk_x.y-z12345, 401", f"Authorization: Bearer {HIDDEN}, 401"),
        ("key rk_live_abcdefgh12", f"key {HIDDEN}"),
        ("n_tokens=4, key=end; Bearer of news", None),
        ("the end of sk-learn", "the end of sk-learn"),
        ("explained_variance 0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c", None),
    ],
)
def test_texts(text: str, redacted: str | None) -> None:
    assert Redaction({}).text(text) == (text if redacted is None else redacted)


def test_secrets_of_a_config_are_found_by_name_and_hidden_everywhere() -> None:
    config = {"methods": [{"method": "acme", "api_key": "correct horse", "key": "end", "k": 4}], "name": "x"}
    redaction = Redaction(config)
    hidden = {"methods": [{"method": "acme", "api_key": HIDDEN, "key": "end", "k": 4}], "name": "x"}
    assert redaction.value(config) == hidden
    assert redaction.text('{"api_key":"correct horse"}') == f'{{"api_key":"{HIDDEN}"}}'


ODD = "zq&ss‹wö\"rd>9 \\9'x\n\t😀/+%"


def _scripted(text: str) -> str:
    """As the report writes JSON into scripts."""
    return json.dumps(text).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


FORMS = {
    "JSON": json.dumps,
    "JSON with all letters": lambda text: json.dumps(text, ensure_ascii=False),
    "Python": repr,
    "HTML": html.escape,
    "template": lambda text: str(escape(text)),
    "script": _scripted,
    "YAML": lambda text: OmegaConf.to_yaml({"a": text}),
}
SECRETS = (ODD, 'don\'t "tell"', "sóme‹thing›", "back\\slash&amp;")


@pytest.mark.parametrize("outer", FORMS)
@pytest.mark.parametrize("inner", FORMS)
def test_a_secret_is_gone_however_it_is_quoted(inner: str, outer: str) -> None:
    for secret in SECRETS:
        written = FORMS[outer](FORMS[inner](f"before {secret} after"))
        left = Redaction({"api_key": secret}).text(written).partition("before")[2].partition("after")[0]
        assert left.strip() == HIDDEN or left.strip() == f"{HIDDEN}amp;", written


def test_a_secret_is_gone_from_addresses() -> None:
    for secret in SECRETS:
        redaction = Redaction({"api_key": secret})
        assert redaction.text(f"http://x/{quote(secret, safe='')}/y") == f"http://x/{HIDDEN}/y"


@pytest.mark.parametrize("name", ["STRIPE_API_KEY_PROD", "apiKeyProd", "GH_TOKEN_2", "DB_PASSWORD_FILE", "APIKEY"])
def test_names_of_secrets(name: str) -> None:
    assert Redaction({name: "opensesame"}).text("opensesame") == HIDDEN


@pytest.mark.parametrize(
    "name",
    [
        *(
            "MYSQL_PWD",
            "DB_PASS",
            "dbPass",
            "JWT",
            "MY_JWT_2",
            "SENTRY_DSN",
            "COOKIE",
            "sessionCookie",
            "AUTH",
            "BASIC_AUTH",
        ),
        *("SSH_PRIVATE", "SLACK_WEBHOOK", "AZURE_STORAGE_CONNECTION_STRING", "connectionString", "CREDENTIAL"),
    ],
)
def test_other_names_of_secrets(name: str) -> None:
    assert Redaction({name: "opensesame"}).text("opensesame") == HIDDEN


@pytest.mark.parametrize(
    "name",
    [
        *("TOKENIZERS_PARALLELISM", "tokens", "keyboard", "KEYBOARD_LAYOUT", "n_tokens", "PWD", "OLDPWD", "author"),
        *("AUTHOR", "XAUTHORITY", "compass", "BYPASS", "passes", "COOKIECUTTER_CONFIG", "privately", "is_privateer"),
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert Redaction({name: "opensesame"}).text("opensesame") == "opensesame"


HEX = "0123456789abcdef" * 4
DIGITS = "Ab3" * 20
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{DIGITS}\n{DIGITS[:21]}==\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"sk-proj-{DIGITS}", ""),  # OpenAI
        (f"sk-ant-api03-{DIGITS}", ""),
        (f"hf_{DIGITS[:34]}", ""),
        (f"ASIA{'A1' * 8}", ""),  # AWS
        (f"AIza{DIGITS[:35]}", ""),  # Google
        (f"ya29.{DIGITS}", ""),
        (f"GOCSPX-{DIGITS[:28]}", ""),
        (f"ghs_{DIGITS[:36]}", ""),
        (f"glpat-{DIGITS[:20]}", ""),
        ("xoxb-123456789012-abcdefABCDEF", ""),  # Slack
        ("xapp-1-A123-456-abcdef", ""),
        (f"whsec_{DIGITS[:32]}", ""),  # Stripe
        (f"wandb_v1_{DIGITS}", ""),
        (f"npm_{DIGITS[:36]}", ""),
        (f"pypi-AgEIcHlwaS5vcmc{DIGITS}", ""),
        (f"SG.{DIGITS[:22]}.{DIGITS[:43]}", ""),  # SendGrid
        (f"SK{HEX[:32]}", ""),  # Twilio
        (f"api.telegram.org/bot123456789:AA{DIGITS[:33]}/getMe", "api.telegram.org/bot123456789:AA /getMe"),
        (f"AccountKey={DIGITS}==;EndpointSuffix=x", "AccountKey= ;EndpointSuffix=x"),  # Azure
        (f"abc8Q~{DIGITS[:34]}", "abc8Q~ "),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N", ""),
        (PEM, ""),
        (json.dumps(PEM), '" "'),
        (f"-----BEGIN OPENSSH PRIVATE KEY-----\n{DIGITS}", ""),  # cut off
        ("https://hooks.slack.com/services/T00/B00/abc, 404", "https://hooks.slack.com/services/ , 404"),
        ("https://discord.com/api/webhooks/123/ab-c_d 404", "https://discord.com/api/  404"),
        (f"https://{HEX[:32]}@o1.ingest.sentry.io/2", "https:// @o1.ingest.sentry.io/2"),
        ("postgresql://ann:pa55@db/x", "postgresql:// @db/x"),
        ("Set-Cookie: session=abcdefgh; Path=/", "Set-Cookie:  "),
        ("authorization: Basic YW5uOnBhc3M=", "authorization: Basic "),
        ("https://x/y?X-Amz-Signature=abc&n=3", "https://x/y?X-Amz-Signature= &n=3"),
    ],
)
def test_keys_of_the_common_services(text: str, left: str) -> None:
    """`left` is what stays, with a space for what is hidden."""
    found = Redaction({}).text(f"said: {text}")
    assert found.removeprefix("said: ").replace(HIDDEN, " ").strip() == left.strip()
    assert HIDDEN in found
    around = f"\ud800 {'words ' * 2_000}"  # in a long text forms are looked for in another way
    assert Redaction({}).text(f"{around}said: {text}") == around + found


@pytest.mark.parametrize(
    "text",
    [
        HEX[:32],  # a cell's key
        f"logs/fit-{HEX[:32]}.txt, sha256:{HEX}, commit {HEX[:40]}",
        f"https://huggingface.co/org/model/resolve/{HEX[:40]}/model.safetensors",
        "ask-me, task-level-annotations-of-things, risk-adjusted-returns-per-quarter",
        "MASK, SKETCH, SK8, ASIAN, ASIATIC, AKIABCD, npm_run, hf_transfer, pypi-server, SG.1",
        "mail ann@example.org or ssh://git@host/x, see https://x/@ann",
        "Cookie: x",
        "the private key -----BEGIN CERTIFICATE----- is no secret",
        "a basic assumption; bearer bonds; eyJust so",
        "topk_sae(n_latents=256, k=8) on random-gpt2 resid_post.1, seed 0; key=end, auth=none",
        "c8Q~x 12:AAron",
    ],
)
def test_ordinary_texts_stay(text: str) -> None:
    assert Redaction({}).text(text) == text


def test_texts_of_a_corpus_stay() -> None:
    documents = itertools.islice(harness.create("corpus", "packaged", name="bible").documents(), 300)
    texts = [document.text for document in documents]
    redaction = Redaction({})
    assert [redaction.text(text) for text in texts] == texts


def test_files_are_redacted_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "page.html").write_text("ö opensesame-42", encoding="utf-8")
    (tmp_path / "plot.png").write_bytes(b"\x89PNG\xff opensesame-42")
    Redaction({}).files(tmp_path)
    assert (tmp_path / "deep" / "page.html").read_text(encoding="utf-8") == f"ö {HIDDEN}"
    assert (tmp_path / "plot.png").read_bytes() == b"\x89PNG\xff opensesame-42"


def test_tables_keep_their_types_and_nulls() -> None:
    table = pd.DataFrame({"error": ["/home/ann/x", None], "n": [1, None], "mixed": [1.5, "/home/ann"]})
    table = table.astype({"error": "string", "n": "Int64"})
    redacted = Redaction({}).table(table)
    expected = table.assign(error=pd.array(["~/x", None], dtype="string"), mixed=[1.5, "~"])
    pd.testing.assert_frame_equal(redacted, expected)


@given(st.text(), st.text())
def test_a_secret_is_gone_wherever_it_stands(before: str, after: str) -> None:
    secret = "s3cret.*[value]"
    assert secret not in Redaction({"password": secret}).text(before + secret + after)


def test_the_home_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Redaction({}).text(f"{tmp_path}/x") == "~/x"

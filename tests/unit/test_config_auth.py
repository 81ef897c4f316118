"""`[auth]`: the shapes of auth.md section 6, and what contradicts itself in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.support.config import load, problems

JWT = """
[auth]
kind = "token"
source = "jwt"
[auth.jwt]
"""
KORA = """
[auth]
kind = "kora"
[auth.kora]
database = ""
"""
STATIC = """
[auth]
kind = "token"
source = "static"
[[auth.tokens]]
user = "admin"
"""
SECRET = "0123456789abcdef0123456789abcdef"


def test_jwts_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text("{}")
    auth = load(
        tmp_path,
        """
        [auth]
        kind = "token"
        source = "jwt"
        revalidate = 30.0
        on_expiry = "keep"
        refusal_delay = 1.0
        allow_query_token = false
        shared_data = false

        [auth.jwt]
        algorithms = ["RS256", "ES256"]
        jwks_file = "jwks.json"
        issuer = "https://id.example.org"
        audience = ["kora"]
        leeway = 5.0
        require_exp = true
        user_claim = "sub"
        metadata = { email = "email", org = "org.slug" }

        [auth.scopes]
        todos = { userId = "{sub}" }
        projects = { orgId = "{org.id?}" }
        settings = {}

        [[auth.grants]]
        when = { role = "admin" }
        scopes = { "*" = {} }
        [[auth.grants]]
        when = { role = ["viewer", "guest"] }
        scopes = { todos = { orgId = "{org.id}" } }
        readonly = true
        """,
    ).auth
    assert auth.jwt is not None
    assert auth.jwt.jwks_file == tmp_path / "jwks.json"
    assert auth.jwt.metadata == {"email": "email", "org": "org.slug"}
    assert auth.scopes == {"todos": {"userId": "{sub}"}, "projects": {"orgId": "{org.id?}"}, "settings": {}}
    assert [(grant.when, grant.readonly) for grant in auth.grants] == [
        ({"role": "admin"}, False),
        ({"role": ["viewer", "guest"]}, True),
    ]


def test_public_data_beside_users_of_a_kora_server(tmp_path: Path) -> None:
    auth = load(
        tmp_path,
        """
        [auth]
        kind = "mixed"
        primary = "kora"
        on_invalid_token = "anonymous"
        anonymous_prefix = "guest"
        [auth.anonymous.scopes]
        responses = {}
        forms = { status = "published" }
        [auth.kora]
        secret = ["${NEW}", "${OLD}"]
        database = "postgresql://kora@db/app"
        check_device = true
        touch_interval = 60.0
        """,
        {"NEW": SECRET, "OLD": SECRET[::-1]},
    ).auth
    assert auth.kora is not None
    assert auth.kora.secret == (SECRET, SECRET[::-1])
    assert auth.anonymous is not None
    assert auth.anonymous.scopes == {"responses": {}, "forms": {"status": "published"}}


def test_scopes_that_hide_everything_are_not_the_same_as_none(tmp_path: Path) -> None:
    anonymous = load(
        tmp_path,
        '[auth]\nkind = "mixed"\nprimary = "kora"\n[auth.anonymous.scopes]\n'
        f'[auth.kora]\ndatabase = ""\nsecret = "{SECRET}"',
    ).auth.anonymous
    assert anonymous is not None
    assert anonymous.scopes == {}


def test_static_tokens(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"other").hexdigest()
    first, second = load(
        tmp_path,
        f"""
        [auth]
        kind = "token"
        source = "static"
        [[auth.tokens]]
        token = "${{ADMIN_TOKEN}}"
        user = "admin"
        unscoped = true
        [[auth.tokens]]
        sha256 = "{digest.upper()}"
        user = "reporting"
        unscoped = true
        metadata = {{ plan = "pro", seats = 5 }}
        """,
        {"ADMIN_TOKEN": "s3cret"},
    ).auth.tokens
    assert (first.token, first.user) == ("s3cret", "admin")
    assert (second.sha256, second.metadata) == (digest, {"plan": "pro", "seats": 5})


def test_scopes_of_a_static_token(tmp_path: Path) -> None:
    (token,) = load(
        tmp_path, STATIC + 'token = "t"\nscopes = { invoices = { tenant = "t1", paid = true } }'
    ).auth.tokens
    assert token.scopes == {"invoices": {"tenant": "t1", "paid": True}}


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('token = "t"', "auth.tokens (kora.toml): [0] has no scopes, expected scopes, or unscoped = true"),
        ("unscoped = true", "auth.tokens (kora.toml): [0] has neither, expected exactly one of token, sha256"),
        (
            f'unscoped = true\ntoken = "t"\nsha256 = "{"a" * 64}"',
            "auth.tokens (kora.toml): [0] has both, expected exactly one of token, sha256",
        ),
        (
            'unscoped = true\ntoken = "t"\nscopes = {}',
            "auth.tokens (kora.toml): [0] has scopes and unscoped = true, expected one of them",
        ),
        ('unscoped = true\ntoken = ""', "auth.tokens[0].token (kora.toml): found a text, expected a text that is not"),
        ('unscoped = true\nsha256 = "abc"', "auth.tokens[0].sha256 (kora.toml): found a text, expected 64 hexadecimal"),
        (
            'token = "t"\nscopes = { todos = { tags = ["a"] } }',
            'auth.tokens[0].scopes (kora.toml): found { todos = { tags = ["a"] } }, expected todos.tags to be a text,',
        ),
        (
            'token = "t"\nscopes = { todos = "all" }',
            'auth.tokens[0].scopes (kora.toml): found { todos = "all" }, expected todos to be a table of fields',
        ),
    ],
)
def test_a_bad_static_token_is_refused(tmp_path: Path, toml: str, problem: str) -> None:
    (found,) = problems(tmp_path, STATIC + toml)
    assert found.startswith(problem)


def test_one_token_in_two_entries_is_refused_in_whatever_form(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"t").hexdigest()
    toml = f'{STATIC}unscoped = true\ntoken = "t"\n[[auth.tokens]]\nuser = "u"\nunscoped = true\nsha256 = "{digest}"'
    assert problems(tmp_path, toml) == [
        "auth.tokens (kora.toml): found 1 token more than once, expected each in one entry"
    ]


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (JWT, "auth.jwt.algorithms (kora.toml): is missing, expected a list of algorithms"),
        (JWT + "algorithms = []", "auth.jwt.algorithms (kora.toml): found [], expected a list of algorithms"),
        (JWT + 'algorithms = ["none"]', 'auth.jwt.algorithms (kora.toml): found ["none"], expected [0] to be "RS256",'),
        (
            JWT + 'algorithms = ["HS256"]',
            "auth.jwt (kora.toml): found none, expected exactly one of jwks_file, jwks_url, public_key_file, secret,",
        ),
        (
            JWT + 'algorithms = ["HS256"]\nsecret = "x"\njwks_url = "https://id/jwks"',
            "auth.jwt (kora.toml): found jwks_url and secret, expected exactly one of",
        ),
        (
            JWT + 'algorithms = ["HS256", "RS256"]\nsecret = "x"',
            "auth.jwt.algorithms (kora.toml): found HS256, RS256, expected either HS* algorithms alone",
        ),
        (
            JWT + 'algorithms = ["RS256"]\nsecret = "x"',
            "auth.jwt.algorithms (kora.toml): found a secret, expected HS* algorithms with it",
        ),
        (
            JWT + 'algorithms = ["HS256"]\npublic_key_file = "kora.toml"',
            "auth.jwt.algorithms (kora.toml): found HS* algorithms with a public key, expected a secret",
        ),
        (
            JWT + 'algorithms = ["RS256"]\njwks_url = "http://id/jwks"',
            'auth.jwt.jwks_url (kora.toml): found a text, expected a URL that begins with "https://"',
        ),
        (KORA, "auth.kora (kora.toml): found none, expected exactly one of secret, secret_file"),
        (
            KORA + 'secret = "short"',
            "auth.kora.secret (kora.toml): found a text, expected a text of 32 or more characters",
        ),
        (
            KORA + f'secret = "{SECRET}"\nsecret_file = "kora.toml"',
            "auth.kora (kora.toml): found both, expected exactly one of secret, secret_file",
        ),
        ('[auth]\nkind = "token"', 'auth.source (kora.toml): is missing, expected with kind = "token"'),
        ('[auth]\nsource = "static"', 'auth.source (kora.toml): is set, but used only with kind = "token"'),
        (
            '[auth]\nkind = "token"\nsource = "static"',
            'auth.tokens (kora.toml): is missing, expected with kind = "token" and source = "static"',
        ),
        (
            '[auth]\nkind = "token"\nsource = "http"',
            'auth.url (kora.toml): is missing, expected with kind = "token" and source = "http"',
        ),
        (
            "[auth.scopes]\ntodos = {}",
            "auth.scopes (kora.toml): is set, but used only with signed-in users (a kind other than none)",
        ),
        (
            "[auth]\nrequire_scopes = true",
            'auth.require_scopes (kora.toml): is set, but with kind = "none" nobody has scopes, expected another kind',
        ),
        (
            '[auth]\nkind = "kora"\nrequire_scopes = true\nshared_data = true\n'
            f'[auth.kora]\ndatabase = ""\nsecret = "{SECRET}"',
            "auth.require_scopes (kora.toml): is set together with shared_data",
        ),
        (
            STATIC.replace("[auth]", "[auth]\nrequire_scopes = true", 1) + 'token = "t"\nunscoped = true',
            "auth.require_scopes (kora.toml): is set, but auth.tokens has unscoped = true",
        ),
        (
            '[auth]\nprimary = "kora"',
            'auth.primary (kora.toml): is set, but used only with kind = "mixed"',
        ),
    ],
)
def test_a_contradiction_is_refused(tmp_path: Path, toml: str, problem: str) -> None:
    (found,) = problems(tmp_path, toml)
    assert found.startswith(problem)


def test_tokens_of_a_daemon_that_asks_for_none_are_not_silently_ignored(tmp_path: Path) -> None:
    toml = '[[auth.tokens]]\ntoken = "t"\nuser = "u"\nunscoped = true'
    assert problems(tmp_path, toml) == [
        'auth.tokens (kora.toml): is set, but used only with kind = "token" and source = "static"'
    ]


def test_a_secret_of_32_javascript_characters_is_long_enough(tmp_path: Path) -> None:
    for secret, long_enough in (("😀" * 16, True), ("é" * 31, False)):
        assert (problems(tmp_path, f'{KORA}secret = "{secret}"') == []) is long_enough

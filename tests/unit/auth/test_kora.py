"""Kind `kora`: tokens of `@korajs/auth` against the user tables, on both databases."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kora_daemon.auth.contract import ANEW, AuthContext
from kora_daemon.auth.jws import Refused, encode_object, encode_segment
from kora_daemon.auth.kora import KoraAuthProvider
from kora_daemon.auth.kora_tokens import HEADER, KoraTokens, _signature
from kora_daemon.auth.revocations import RevocationList
from kora_daemon.auth.scoping import TableScoping
from kora_daemon.auth.templates import parse_table
from kora_daemon.auth.users import LastSeen
from kora_daemon.errors import AuthUnavailable, StoreUnavailable
from kora_daemon.server.auth_calls import AuthCalls
from kora_daemon.store.postgres.users import PostgresUsers
from kora_daemon.store.sqlite.users import SqliteUsers
from tests.support.auth import TABLES, SqliteTables, UserTables
from tests.support.tokens import NOW, SECRET

OLD_SECRET = SECRET[::-1]


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def issued(user: str = "ali", device: str = "d1", secret: str = SECRET, kind: str = "access") -> str:
    return KoraTokens([secret]).issue(user, device, kind, NOW, 900)


@pytest.fixture(params=list(TABLES))
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UserTables]:
    made = TABLES[request.param](tmp_path)
    for name in ("ali", "bea"):
        made.user(name)
    made.device("d1", "ali")
    made.device("d2", "bea")
    yield made
    made.connection.close()  # type: ignore[attr-defined]


def provider(tables: UserTables, clock: Clock | None = None, scopes: Any = None, **more: Any) -> KoraAuthProvider:
    made = KoraAuthProvider([SECRET], tables.directory(), scopes, clock=clock or Clock(), **more)
    made.use(AuthCalls())
    return made


async def test_a_user_is_looked_up_and_scoped_by_claims_and_row(tables: UserTables) -> None:
    asked = provider(tables, scopes=TableScoping(parse_table({"todos": {"by": "{sub}", "mail": "{user.email}"}})))
    assert await asked.authenticate(issued()) == AuthContext(
        "ali",
        {"todos": {"by": "ali", "mail": "ali@example.org"}},
        {"deviceId": "d1", "email": "ali@example.org", "name": "Ali"},
        device_id="d1",
        expires_at=NOW + 900,
    )


async def test_a_deleted_user_and_a_revoked_device_go_at_the_next_check(tables: UserTables) -> None:
    asked = provider(tables)
    contexts = [await asked.authenticate(issued(user, device)) for user, device in (("ali", "d1"), ("bea", "d2"))]
    ali, bea = contexts
    assert ali is not None
    assert bea is not None
    assert await asked.revalidate([ali, bea]) == contexts
    tables.execute("UPDATE auth_devices SET revoked = (1 = 1) WHERE id = 'd1'")
    assert await asked.revalidate([ali, bea]) == [None, bea]
    assert await asked.authenticate(issued()) is None
    tables.execute("DELETE FROM auth_devices")
    tables.execute("DELETE FROM auth_users WHERE id = 'bea'")
    assert await asked.revalidate([ali, bea]) == [ali, None]


async def test_whether_the_device_counts_is_a_setting(tables: UserTables) -> None:
    tables.execute("UPDATE auth_devices SET revoked = (1 = 1)")
    assert await provider(tables, check_device=False).authenticate(issued())


async def test_sessions_of_a_secret_that_is_gone_begin_anew(tables: UserTables) -> None:
    before = KoraAuthProvider([SECRET, OLD_SECRET], tables.directory(), clock=Clock())
    old = await before.authenticate(issued(secret=OLD_SECRET))
    new = await before.authenticate(issued())
    assert old is not None
    assert new is not None
    assert await before.revalidate([old, new]) == [old, new]
    assert await provider(tables).revalidate([old, new, AuthContext("anonymous")]) == [ANEW, new, ANEW]


async def test_a_change_of_scopes_shows_at_the_next_check(tables: UserTables) -> None:
    def scopes(user_id: str, claims: Mapping[str, Any]) -> Any:
        assert claims["user"]["email"] == f"{user_id}@example.org"
        return answers.pop(0)

    answers: list[Any] = [{"todos": {"done": True}}, {"todos": {"done": True}}, {"todos": {"done": 1}}, False]
    asked = provider(tables, scopes=scopes)
    context = await asked.authenticate(issued())
    assert context is not None
    assert await asked.revalidate([context]) == [context]
    (changed,) = await asked.revalidate([context])
    assert isinstance(changed, AuthContext)
    assert changed != context, "true is not 1"
    assert await asked.revalidate([context]) == [ANEW]


async def test_thousands_of_sessions_are_looked_up_in_one_go(tables: UserTables) -> None:
    asked = provider(tables)
    context = await asked.authenticate(issued())
    assert context is not None
    others = [await asked.authenticate(issued(device=f"device-{number}")) for number in range(3)]
    found = await asked.revalidate([context, *filter(None, others)] * 400)
    assert len(found) == 1600
    users, revoked = tables.directory().look_up([f"u{n}" for n in range(3000)] + ["ali"], ["d1"] * 1200)
    assert (list(users), list(revoked)) == (["ali"], [])


async def test_a_stamp_is_written_later_and_once_a_minute(tables: UserTables) -> None:
    clock = Clock()
    asked = provider(tables, clock)
    await asked.authenticate(issued())
    assert tables.last_seen()["d1"] == 0
    asked.tend()
    assert tables.last_seen()["d1"] == NOW * 1000
    clock.now += 59
    await asked.authenticate(issued())
    asked.tend()
    assert tables.last_seen()["d1"] == NOW * 1000
    clock.now += 1
    await asked.authenticate(issued())
    asked.close()
    assert tables.last_seen() == {"d1": (NOW + 60) * 1000, "d2": 0}


async def test_stamps_never_go_back_and_need_a_row(tables: UserTables) -> None:
    tables.execute("UPDATE auth_devices SET last_seen_at = 1900000000000")
    directory = tables.directory()
    directory.stamp({"d1": 1800000000000, "d2": 1950000000000, "ghost": 1, "nul\0": 1, "half\ud800": 1})
    assert tables.last_seen() == {"d1": 1900000000000, "d2": 1950000000000}
    directory.stamp({})
    directory.close()


async def test_a_refused_login_stamps_nothing(tables: UserTables) -> None:
    asked = provider(tables, scopes=lambda user, claims: False)
    for token in (issued(), issued(kind="refresh"), issued("nobody"), issued(secret=OLD_SECRET)):
        assert await asked.authenticate(token) is None
    asked.close()
    assert tables.last_seen() == {"d1": 0, "d2": 0}


async def test_a_database_that_fails_says_nothing_about_a_token(tables: UserTables) -> None:
    tables.execute("DROP TABLE auth_devices")
    tables.execute("DROP TABLE auth_users")
    asked = provider(tables)
    with pytest.raises(AuthUnavailable):
        await asked.authenticate(issued())
    assert tables.directory().missing() == ["auth_users", "auth_devices"]


def test_what_the_tables_lack_is_named_and_nothing_is_made(tables: UserTables) -> None:
    assert tables.directory().missing() == []
    tables.execute("ALTER TABLE auth_users DROP COLUMN name")
    tables.execute("DROP TABLE auth_devices")
    assert tables.directory().missing() == ["auth_users.name", "auth_devices"]


async def test_a_stamp_that_fails_fails_no_login(tables: UserTables) -> None:
    asked = provider(tables)
    assert await asked.authenticate(issued())
    tables.execute("DROP TABLE auth_devices")
    asked.tend()
    asked.tend()


def test_a_file_or_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    for directory in (
        SqliteUsers(tmp_path / "none.db"),
        PostgresUsers(f"host={tmp_path} user=kora dbname=kora", connect_timeout_s=1),
    ):
        with pytest.raises(StoreUnavailable):
            directory.look_up(["ali"], [])
        with pytest.raises(StoreUnavailable):
            directory.stamp({"d": 1})
    assert not (tmp_path / "none.db").exists()


async def test_a_file_that_was_put_in_place_of_another_counts(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    before, after = SqliteTables(tmp_path), SqliteTables(tmp_path / "new")
    before.user("ali")
    after.user("bea")
    for tables in (before, after):
        tables.connection.pragma("journal_mode", "delete")
        tables.connection.close()
    directory = before.directory()
    assert set(directory.look_up(["ali", "bea"], [])[0]) == {"ali"}
    after.path.rename(before.path)
    assert set(directory.look_up(["ali", "bea"], [])[0]) == {"bea"}


async def test_the_signature_alone_counts_without_a_database() -> None:
    asked = KoraAuthProvider([SECRET], clock=Clock())
    assert await asked.authenticate(issued("zoe", "z1")) == AuthContext(
        "zoe", metadata={"deviceId": "z1"}, device_id="z1", expires_at=NOW + 900
    )
    assert await asked.authenticate(issued("", "z1")) is None
    asked.close()


async def test_the_revocation_list_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path, now = tmp_path / "revoked.txt", 0.0
    path.write_text("# nobody yet\n\n")
    asked = KoraAuthProvider([SECRET], revoked=RevocationList(path, lambda: now), clock=Clock())
    context = await asked.authenticate(issued())
    assert context is not None
    path.write_text("other\n  d1  \n")
    assert await asked.authenticate(issued()), "looked at once a second"
    now = 1.0
    assert await asked.authenticate(issued()) is None
    assert await asked.revalidate([context]) == [None]
    path.unlink()
    now = 2.0
    assert await asked.authenticate(issued()) is None, "what is revoked stays so"
    with pytest.raises(AuthUnavailable):
        RevocationList(tmp_path / "none").revokes("d1")


class Slow:
    """A directory that hangs."""

    def missing(self) -> list[str]:
        return []

    def look_up(self, user_ids: Collection[str], device_ids: Collection[str]) -> Any:
        trio.from_thread.run(trio.sleep_forever)

    def stamp(self, last_seen_ms: Mapping[str, int]) -> None:
        raise StoreUnavailable("slow")

    def close(self) -> None:
        pass


async def test_a_look_up_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kora_daemon.auth.kora.LOOK_UP_TIMEOUT_S", 0.01)
    asked = KoraAuthProvider([SECRET], Slow(), clock=Clock())
    asked.use(AuthCalls())
    with pytest.raises(AuthUnavailable):
        await asked.authenticate(issued())


def test_the_memory_of_stamps_is_bounded() -> None:
    seen = LastSeen(Slow(), 60.0)
    for number in range(20_000):
        seen.saw(f"d{number}", NOW)
    assert len(seen._waiting) == 10_000
    seen.write(NOW)
    assert (seen._waiting, seen._stamped) == ({}, {})


def test_grounds_are_not_shown() -> None:
    waiting = KoraAuthProvider([SECRET], clock=Clock()).authenticate(issued())
    with pytest.raises(StopIteration) as done:
        waiting.send(None)
    context = done.value.value
    assert repr(context.grounds) == "<KoraGrounds>"
    assert replace(context, user_id="other") != context


@pytest.mark.parametrize("digits", ["1" + "0" * 400, "1" + "0" * 6000, "-1" + "0" * 400, "1e400"], ids=len)
def test_numbers_that_nobody_can_calculate_with_are_refused(digits: str) -> None:
    payload = f'{{"jti":"j","sub":"a","dev":"d","type":"access","iat":1,"exp":{digits}}}'
    signed = f"{HEADER}.{encode_segment(payload.encode())}"
    with pytest.raises(Refused):
        TOKENS.validate(f"{signed}.{_signature(SECRET.encode(), signed.encode())}", NOW)


GOOD = issued()
TOKENS = KoraTokens([SECRET])


@given(st.data())
def test_no_token_with_a_changed_character_is_accepted(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(GOOD)))
    gone = data.draw(st.integers(0, 2))
    put = data.draw(st.one_of(st.just(""), st.sampled_from("ABCDwxyz0189-_.=+/ \n"), st.text(max_size=3)))
    changed = GOOD[:place] + put + GOOD[place + gone :]
    if changed != GOOD:
        with pytest.raises(Refused):
            TOKENS.validate(changed, NOW)


@given(
    st.one_of(st.text(), st.text().map(lambda text: f"{HEADER}.{text}"), st.text().map(lambda t: f"{HEADER}.{t}.{t}"))
)
def test_no_text_is_accepted_or_breaks_anything(text: str) -> None:
    with pytest.raises(Refused):
        TOKENS.validate(text, NOW)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["jti", "sub", "dev", "type", "iat", "exp"]), _JSON))
def test_signed_claims_of_any_shape_are_six_of_the_right_type_or_refused(payload: dict[str, Any]) -> None:
    try:
        token = TOKENS.encode(payload)
    except UnicodeEncodeError:
        return
    try:
        claims = TOKENS.validate(token, NOW).claims
    except Refused:
        return
    assert claims.type in ("access", "refresh", "device_credential")
    assert claims.exp + 5 > NOW
    assert {type(one) for one in (claims.jti, claims.sub, claims.dev)} == {str}


def test_a_token_without_a_signature_of_ours_is_nothing_however_it_is_made() -> None:
    payload = encode_object({"jti": "j", "sub": "ali", "dev": "d", "type": "access", "iat": 1, "exp": 9e9})
    for token in (f"{HEADER}.{payload}.", f"{HEADER}.{payload}", f"{HEADER}.{payload}.{'A' * 43}", "x" * (1 << 17)):
        with pytest.raises(Refused):
            TOKENS.validate(token, NOW)

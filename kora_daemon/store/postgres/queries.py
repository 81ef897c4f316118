"""The questions to the log and to the catalogue, as PostgreSQL takes them.

Lists, and rows to be written, go in as one JSON text: one statement and one round trip for any number. All texts are
compared by code point. Names stand in their columns as `names` has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kora_daemon.materialization.shape import RefillSource
from kora_daemon.store.tables import ENTRY_COLUMNS, KEY_COLUMNS, OPERATIONS


def numbered(statement: str) -> str:
    """The statement with its parameters written `$1`, `$2` instead of `?`."""
    first, *rest = statement.split("?")
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, start=1))


def recordset(types: Sequence[str], parameter: str = "$1") -> str:
    """The rows that `names.rows_json` has written into a parameter, with columns c0, c1 and so on of these types."""
    columns = ", ".join(f"c{place} {kind}" for place, kind in enumerate(types))
    return f"json_to_recordset({parameter}::json) AS given({columns})"


def _select(columns: Iterable[str], source: str) -> str:
    return " ".join(("SELECT", ", ".join(columns), "FROM", source))


def _listed(parameter: str) -> str:
    return f"(SELECT json_array_elements_text({parameter}::json))"


# -- write transactions -----------------------------------------------------------------------------------------------

_LOCKED = "SELECT value, coalesce(materialized, 0), coalesce(shapes, 0) FROM delivery_counter WHERE id = 1"
BEGIN_WRITE = f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {_LOCKED} FOR NO KEY UPDATE"
"""The lock of all writers comes first: what is read afterwards is what all earlier writes have left.

Its row is read as it is once the lock is had, which is not true of other tables in the same statement.
"""


def begin_write(locks: Iterable[tuple[str, str]] = ()) -> str:
    """Begins a write that judges these records; the reference server takes its locks of them in the same order."""
    keys = sorted(f"kora:{collection}:{record_id}".replace("'", "''") for collection, record_id in locks)
    taken = "".join(f"SELECT pg_advisory_xact_lock(hashtextextended('{key}', 0)); " for key in keys)
    return BEGIN_WRITE.replace("; ", f"; {taken}", 1) if taken else BEGIN_WRITE


_ENSURE_TABLES = "SELECT pg_advisory_xact_lock(hashtextextended('kora:ensure-tables', 0))"
BEGIN_UPGRADE = f"""
    BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = 0;
    {_ENSURE_TABLES}; {_LOCKED} FOR NO KEY UPDATE
"""
"""The advisory lock is the reference server's too, for the same purpose, and comes first there as well."""
BEGIN_ADOPTION = f"""
    SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; {_ENSURE_TABLES}
"""
BEGIN_PROBE = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = on"
BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
END_FROZEN = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = current_setting('application_name')
        AND usename = current_user AND pid <> pg_backend_pid() AND backend_xid IS NOT NULL
        AND state = 'active' AND wait_event = 'ClientRead' AND query_start < now() - $1 * interval '1 second'
"""
COUNT_PROBE = """
    INSERT INTO kora_meta (key, value) VALUES ('probe', '1')
    ON CONFLICT (key) DO UPDATE SET value = kora_meta.value::bigint + 1
"""
CHANNEL = "kora_frontier"
"""On which committed delivery sequences are announced, the largest of each write."""
WORDS_CHANNEL = "kora_words"
LISTEN = f"LISTEN {CHANNEL}; LISTEN {WORDS_CHANNEL}"
SAY = f"SELECT pg_notify('{WORDS_CHANNEL}', $1)"
SAY_AT_LENGTH = f"""
    WITH forgotten AS (DELETE FROM kora_words WHERE said_at < now() - interval '1 minute')
    INSERT INTO kora_words (body) VALUES ($1) RETURNING pg_notify('{WORDS_CHANNEL}', id::text)
"""
LONG_WORDS = "SELECT id, body FROM kora_words WHERE id = ANY($1)"
SET_COUNTER = "UPDATE delivery_counter SET value = $1, materialized = $2, shapes = $3 WHERE id = 1"
ANNOUNCE = f"{SET_COUNTER} RETURNING pg_notify('{CHANNEL}', $4)"

_OPERATION_COLUMNS = ", ".join(column.name for column in OPERATIONS.columns)
_OPERATION_TYPES = [column.type.replace("INTEGER", "BIGINT") for column in OPERATIONS.columns]
_OPERATION_VALUES = ", ".join(f"c{place}" for place in range(len(_OPERATION_TYPES)))
APPEND = f"""
    WITH appended AS (
        INSERT INTO operations ({_OPERATION_COLUMNS})
        SELECT {_OPERATION_VALUES} FROM {recordset(_OPERATION_TYPES)}
    )
    INSERT INTO sync_state (node_id, max_sequence_number, last_seen_at)
    SELECT c0, c1, c2 FROM {recordset(("TEXT", "BIGINT", "BIGINT"), "$2")}
    ON CONFLICT (node_id) DO UPDATE SET
        max_sequence_number = greatest(sync_state.max_sequence_number, excluded.max_sequence_number),
        last_seen_at = excluded.last_seen_at
"""
"""Takes the rows of `tables.operation_row` and `tables.vector_rows`."""
SET_VECTOR = f"""
    INSERT INTO sync_state (node_id, max_sequence_number, last_seen_at)
    SELECT c0, c1, c2 FROM {recordset(("TEXT", "BIGINT", "BIGINT"))}
"""

# -- the log ----------------------------------------------------------------------------------------------------------

_VECTOR = ("node_id", "max_sequence_number")
_SIZE = "octet_length(coalesce(data, 'null')) + coalesce(octet_length(previous_data), 0)"
_BODY_SIZE = """
    170 + octet_length(id) + 2 * octet_length(node_id) + octet_length(record_id) + octet_length(causal_deps)
        + coalesce(octet_length(data), 0) + coalesce(octet_length(previous_data), 0)
"""
"""A little less than a row takes as JSON."""

FRONTIER = "SELECT coalesce(max(delivery_seq), 0) FROM operations"
FLOOR = "SELECT coalesce((SELECT value::bigint FROM kora_meta WHERE key = 'floor'), 0)"
REACH = f"SELECT greatest(({FRONTIER}), ({FLOOR}))"
COUNT = "SELECT count(*) FROM operations"
SIZE = """
    SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0) FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE relkind = 'r' AND nspname = current_schema()
"""
KNOWN_IDS = f"SELECT id FROM operations WHERE id IN {_listed('$1')}"
VECTOR = _select(_VECTOR, "sync_state WHERE max_sequence_number > 0")
VECTOR_OF = f"{VECTOR} AND node_id IN {_listed('$1')}"
SEQUENCE_NUMBER = "SELECT max_sequence_number FROM sync_state WHERE node_id = $1"
AUTHORS_AFTER = "SELECT DISTINCT node_id FROM operations WHERE delivery_seq > $1"
ENTRIES_AFTER = _select(ENTRY_COLUMNS, "operations WHERE delivery_seq > $1 ORDER BY delivery_seq LIMIT $2")


def _entries_within(size: str) -> str:
    return f"""
        SELECT {", ".join(ENTRY_COLUMNS)} FROM (
            SELECT {", ".join(ENTRY_COLUMNS)},
                sum({size}) OVER (ORDER BY delivery_seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
            FROM operations WHERE delivery_seq > $1 ORDER BY delivery_seq LIMIT $2
        ) AS page WHERE coalesce(before, 0) <= $3 ORDER BY delivery_seq
    """


ENTRIES_WITHIN = _entries_within(_SIZE)
"""As many as `page.take_bytes` takes: large ones that are not taken need not travel."""
DELIVERIES_WITHIN = _entries_within(_BODY_SIZE)
"""As many as `page.take_deliveries` takes, and perhaps some more."""
CLAIMS = f"SELECT node_id, claimed_by FROM kora_nodes WHERE claimed_by IS NOT NULL AND node_id IN {_listed('$1')}"
NODE_MEMORY = "SELECT claimed_by, scope, floor, settled, settled_upto, views FROM kora_nodes WHERE node_id = $1"
COMPLETE_UPTO = """
    SELECT coalesce(max(number), $2) FROM (
        SELECT number, row_number() OVER (ORDER BY number) AS place FROM (
            SELECT DISTINCT sequence_number AS number FROM operations WHERE node_id = $1 AND sequence_number > $2
        ) AS numbers
    ) AS placed WHERE number - place = $2
"""
"""Numbers ascend by one as long as none is missing."""
ADD_KEYS = f"""
    INSERT INTO kora_scopes (key, delivery_seq) SELECT c0, c1 FROM {recordset(("BIGINT", "BIGINT"))}
    ON CONFLICT (key, delivery_seq) DO NOTHING
"""
REMOVE_KEYS = f"""
    DELETE FROM kora_scopes USING {recordset(("BIGINT", "BIGINT"))} WHERE key = c0 AND delivery_seq = c1
"""
INDEX_KNOWS_ALL = """
    SELECT coalesce(materialized, 0) >= value AND NOT EXISTS (SELECT 1 FROM kora_collections WHERE refill IS NOT NULL)
    FROM delivery_counter WHERE id = 1
"""
RECORDS_AT = "SELECT DISTINCT collection, record_id, node_id FROM operations WHERE delivery_seq IN ({sequences})"
AUTHORS_AT = "SELECT DISTINCT node_id FROM operations WHERE delivery_seq IN ({sequences})"
ENTRIES_AT = _select(ENTRY_COLUMNS, "operations WHERE delivery_seq = ANY($1::bigint[])")
SEQUENCE_OF = "SELECT delivery_seq FROM operations WHERE id = $1"
ENTRIES_OF = _select(
    ENTRY_COLUMNS,
    "operations WHERE node_id = $1 AND sequence_number BETWEEN $2 AND $3 ORDER BY sequence_number, delivery_seq",
)
KEYS_ABOVE = f"""
    SELECT {", ".join(KEY_COLUMNS)}
    FROM sync_state AS author
    LEFT JOIN {recordset(("TEXT", "BIGINT"))} ON author.node_id = c0
    CROSS JOIN LATERAL (
        SELECT {", ".join(KEY_COLUMNS)} FROM operations
        WHERE operations.node_id = author.node_id AND sequence_number > coalesce(c1, -1) OFFSET 0
    ) AS found
    WHERE author.max_sequence_number > coalesce(c1, -1)
    ORDER BY delivery_seq
"""
"""Takes rows of node id and sequence number. OFFSET keeps it a search for each author instead of a walk."""
REPLAY = _select(
    ENTRY_COLUMNS, "operations WHERE collection = $1 ORDER BY wall_time, logical, sequence_number, delivery_seq"
)

# -- records ----------------------------------------------------------------------------------------------------------

STALE_RECORDS = f"""
    SELECT DISTINCT collection, record_id FROM operations
    WHERE delivery_seq > $1 AND collection IN {_listed("$2")}
"""
STATES = f"""
    SELECT collection, record_id, state FROM {recordset(("TEXT", "TEXT"))}
    JOIN kora_records ON collection = c0 AND record_id = c1
"""
SAVE_STATES = f"""
    INSERT INTO kora_records (collection, record_id, state) SELECT c0, c1, c2 FROM {recordset(("TEXT",) * 3)}
    ON CONFLICT (collection, record_id) DO UPDATE SET state = excluded.state
"""
UPDATE_STATES = f"""
    UPDATE kora_records SET state = c2 FROM {recordset(("TEXT",) * 3)} WHERE collection = c0 AND record_id = c1
"""
CLOCK_ORDER = 'ORDER BY wall_time, logical, timestamp_node_id COLLATE "C", delivery_seq'
HISTORY = _select(ENTRY_COLUMNS, f"operations WHERE collection = $1 AND record_id = $2 {CLOCK_ORDER} LIMIT $3")
REST_OF_HISTORY = _select(ENTRY_COLUMNS, f"operations WHERE collection = $1 AND record_id = $2 {CLOCK_ORDER} OFFSET $3")
ENTRIES_OF_RECORDS = f"""
    SELECT {", ".join(ENTRY_COLUMNS)} FROM {recordset(("TEXT", "TEXT"))}
    JOIN operations ON collection = c0 AND record_id = c1
"""
RENUMBER = f"""
    UPDATE operations SET delivery_seq = c1 FROM {recordset(("BIGINT", "BIGINT"))} WHERE delivery_seq = c0
"""
HISTORIES = f"""
    SELECT found.* FROM {recordset(("TEXT", "TEXT"))} CROSS JOIN LATERAL (
        {_select(ENTRY_COLUMNS, f"operations WHERE collection = c0 AND record_id = c1 {CLOCK_ORDER} LIMIT $2")}
    ) AS found {CLOCK_ORDER}
"""
"""Takes rows of collection and record id, and how many operations of each are wanted at most."""
RECORD_IDS: dict[RefillSource, str] = {
    "log": 'SELECT DISTINCT record_id COLLATE "C" FROM operations {} ORDER BY record_id COLLATE "C" LIMIT {}',
    "states": "SELECT record_id FROM kora_records {} ORDER BY record_id LIMIT {}",
}
FROM_THE_FIRST, ABOVE = "WHERE collection = $1", 'WHERE collection = $1 AND record_id COLLATE "C" > $2'
LISTED = "SELECT json_array_elements_text(?::json)"
FORGET_RECORDS = f"DELETE FROM kora_records WHERE collection = ? AND {{bounds}} AND record_id NOT IN ({LISTED})"
RESTAMP = f"""
    UPDATE operations SET record_stamp = c2 FROM {recordset(("TEXT", "TEXT", "TEXT", "BOOLEAN"))}
    WHERE collection = c0 AND record_id = c1 AND (record_stamp IS NULL OR NOT c3)
"""
"""Takes rows of collection, record id, stamp, and whether only operations without a stamp are meant."""
SET_FLOOR = """
    INSERT INTO kora_meta (key, value) VALUES ('floor', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
COUNT_HISTORY = "SELECT count(*) FROM operations {}"
SHAPES = "SELECT name, shape, refill FROM kora_collections"
SAVE_SHAPE = """
    INSERT INTO kora_collections (name, shape, refill) VALUES ($1, $2, $3)
    ON CONFLICT (name) DO UPDATE SET shape = excluded.shape, refill = excluded.refill
"""
SAVE_REFILL = "UPDATE kora_collections SET refill = $1 WHERE name = $2"
FORGET_SHAPE = "DELETE FROM kora_collections WHERE name = $1"
FORGET_STATES = "DELETE FROM kora_records WHERE collection = $1"
EMPTY = "DELETE FROM {table}"

ROOM = " WITH (fillfactor = 75)"
"""For tables whose rows change: a new version in the same page leaves all indexes alone."""

WORDS = "kora_words"
CREATE_WORDS = f"""
    CREATE UNLOGGED TABLE {WORDS} (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body TEXT NOT NULL,
        said_at TIMESTAMPTZ NOT NULL DEFAULT now()
    )
"""
"""What servers tell each other and is too long for a notification; of no use a moment later."""

# -- adoption ---------------------------------------------------------------------------------------------------------

_OURS = "pg_class.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
LOG_COLUMNS = f"""
    SELECT relname::text, attname::text, format_type(atttypid, atttypmod) FROM pg_class
    JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
    WHERE {_OURS} AND relkind IN ('r', 'p') AND relname::text = ANY($1)
"""
INDEXES = f"""
    SELECT indexed.relname::text, pg_class.relname::text, array(
        SELECT attname::text FROM unnest(indkey) WITH ORDINALITY AS key(attnum, place)
        JOIN pg_attribute ON attrelid = indexed.oid AND pg_attribute.attnum = key.attnum ORDER BY place
    ) FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid JOIN pg_class AS indexed ON indexed.oid = indrelid
    WHERE {_OURS} AND indpred IS NULL AND indisvalid
"""
"""Table, index, columns: of all indexes that hold all rows, without expressions among their columns."""
LOCK_COUNTER = "SELECT 1 FROM delivery_counter WHERE id = 1 FOR NO KEY UPDATE"
RECORD_INDEX = "kora_record_order"
HAS_CODE_POINT_ORDER = """
    SELECT 1 FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation
    WHERE attrelid = 'operations'::regclass AND attname = 'record_id' AND collname IN ('C', 'POSIX')
"""
CREATE_RECORD_INDEX = f'CREATE INDEX {RECORD_INDEX} ON operations (collection, record_id COLLATE "C")'
"""For tables of the reference server; in ours the columns themselves are in that order."""
LOG_SIZE = "SELECT pg_total_relation_size('operations')"
NUMBER_OLD_ROWS = """
    UPDATE operations SET delivery_seq = numbered.delivery_seq
    FROM (
        SELECT id, (SELECT greatest(coalesce(max(delivery_seq), 0), (SELECT value FROM delivery_counter WHERE id = 1))
                    FROM operations)
            + row_number() OVER (ORDER BY received_at, sequence_number, id COLLATE "C") AS delivery_seq
        FROM operations WHERE delivery_seq IS NULL
    ) AS numbered
    WHERE operations.id = numbered.id
"""
NOT_BELOW = "UPDATE delivery_counter SET value = $1 WHERE id = 1 AND value < $1"
RAISE_COUNTER = f"UPDATE delivery_counter SET value = ({FRONTIER}) WHERE id = 1 AND value < ({FRONTIER})"
HAS_OLD_ROWS = "SELECT 1 FROM operations WHERE delivery_seq IS NULL LIMIT 1"
FIRST_COUNTER = "INSERT INTO delivery_counter (id, value) VALUES (1, 0) ON CONFLICT (id) DO NOTHING"
NODE_ID = "SELECT value FROM kora_meta WHERE key = 'node_id'"
INITIAL_META = """
    INSERT INTO kora_meta (key, value) VALUES ('format', $1), ('node_id', $2) ON CONFLICT (key) DO NOTHING
"""

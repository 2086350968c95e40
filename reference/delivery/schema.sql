-- The outbox and the inbox: apply once to the database of the service. Safe to apply again.
--
-- A service in any language inserts id, aggregatetype, aggregateid, type and payload in its own transaction; the rest has
-- defaults. The columns are those of Debezium's outbox EventRouter, so that it can read the same table.
--
-- To keep a key's events in order, hold the aggregate's row lock (UPDATE it, or SELECT ... FOR UPDATE) before inserting:
-- the position is then drawn while the lock is held, and the next writer of that aggregate draws a later one only after
-- this transaction's rows are visible. So any single snapshot holds a prefix of every key, in position order.

CREATE SEQUENCE IF NOT EXISTS outbox_position CACHE 1;

CREATE TABLE IF NOT EXISTS outbox (
    position      bigint      NOT NULL DEFAULT nextval('outbox_position') PRIMARY KEY,
    id            uuid        NOT NULL DEFAULT gen_random_uuid(),
    aggregatetype text        NOT NULL,                 -- which topic: outbox.event.{aggregatetype} unless routed elsewhere
    aggregateid   text        NOT NULL,                 -- the key, and CloudEvents' subject
    type          text        NOT NULL,                 -- a fact in the past tense
    payload       jsonb       NOT NULL,                 -- a JSON object
    headers       jsonb,                                -- {"traceparent": "00-...", ...}: sent beside the event as they are
    created_at    timestamptz NOT NULL DEFAULT now(),   -- CloudEvents' time
    lane          smallint    NOT NULL GENERATED ALWAYS AS ((hashtext(aggregateid) & 63)::smallint) STORED
);

-- Wakes idle relays. Several inserts of one transaction make one notification, sent at its commit.
CREATE OR REPLACE FUNCTION outbox_wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('outbox', '');
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER outbox_wake AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION outbox_wake();

-- Rows that change data capture could not carry, and what their keys wrote behind them, in commit order; tried again every few
-- seconds. Mend one with UPDATE, or DELETE what is to be given up. A polling relay leaves such rows in the outbox itself.
CREATE TABLE IF NOT EXISTS outbox_held (
    n             bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    position      bigint      NOT NULL UNIQUE,
    id            text        NOT NULL,
    aggregatetype text        NOT NULL,
    aggregateid   text        NOT NULL,
    type          text        NOT NULL,
    payload       text        NOT NULL,                 -- all as the log had it
    headers       text,
    created_at    text        NOT NULL,
    reason        text        NOT NULL,
    held_at       timestamptz NOT NULL DEFAULT now()
);

-- One row for every event a consumer has applied, written first in the transaction that applies it.
CREATE TABLE IF NOT EXISTS inbox (
    consumer    text        NOT NULL,
    id          text        NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, id)
);

CREATE INDEX IF NOT EXISTS inbox_received_at ON inbox (received_at);

-- The second way: the last sequence applied of each key, which also shows gaps.
CREATE TABLE IF NOT EXISTS inbox_sequence (
    consumer text   NOT NULL,
    key      text   NOT NULL,
    sequence bigint NOT NULL,
    previous bigint NOT NULL,                           -- the one applied before it: 0 for none
    PRIMARY KEY (consumer, key)
);

-- For effects outside this database: who has begun one, until when it is theirs alone, and what came of it.
CREATE TABLE IF NOT EXISTS idempotency_keys (
    key         text        NOT NULL PRIMARY KEY,
    status      text        NOT NULL CHECK (status IN ('started', 'done')),
    owner       text        NOT NULL,                   -- one attempt's own, never a host's or a consumer's
    lease_until timestamptz NOT NULL,
    result      text        CHECK ((result IS NOT NULL) = (status = 'done')),
    changed_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX IF NOT EXISTS idempotency_keys_changed_at ON idempotency_keys (changed_at);

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

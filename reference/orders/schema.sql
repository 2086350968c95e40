-- The shop's tables, in the same database as its outbox and inbox. Safe to apply again.

CREATE TABLE IF NOT EXISTS orders (
    id           text   PRIMARY KEY,
    sku          text   NOT NULL,
    quantity     int    NOT NULL CHECK (quantity > 0),
    amount_cents bigint NOT NULL CHECK (amount_cents >= 0),
    version      int    NOT NULL DEFAULT 1          -- counts the order's events: CloudEvents' sequence
);

-- The shop's own journal: what it knows to have happened, whoever else hears of it.
CREATE TABLE IF NOT EXISTS order_changes (
    entry    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id text   NOT NULL,
    order_id text   NOT NULL,
    version  int    NOT NULL
);

CREATE TABLE IF NOT EXISTS payments (order_id text PRIMARY KEY, amount_cents bigint NOT NULL);

CREATE TABLE IF NOT EXISTS stock (sku text PRIMARY KEY, on_hand int NOT NULL, reserved int NOT NULL DEFAULT 0);

-- Double entry: every movement of money or goods names the event that caused it. Nothing here is unique on purpose, so
-- that an event applied twice leaves two rows, as it would in a real ledger.
CREATE TABLE IF NOT EXISTS ledger (
    entry    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer text   NOT NULL,
    event_id text   NOT NULL,
    order_id text   NOT NULL,
    account  text   NOT NULL,
    amount   bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS order_status (order_id text PRIMARY KEY, status text NOT NULL, sequence int NOT NULL);

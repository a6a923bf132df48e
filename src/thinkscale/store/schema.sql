-- Runs, the traces they are made of, and every completion ever paid for. `PRAGMA user_version` is the schema version.
CREATE TABLE IF NOT EXISTS runs (
    id      TEXT PRIMARY KEY,          -- a name for question, method, model, seed and budget together
    started REAL NOT NULL,             -- seconds since 1970
    status  TEXT NOT NULL,             -- running | done | interrupted
    method  TEXT NOT NULL,             -- spec string
    model   TEXT NOT NULL,
    seed    TEXT NOT NULL,             -- an integer of any size
    budget  TEXT NOT NULL,
    problem TEXT NOT NULL,             -- JSON
    outcome TEXT                       -- JSON as `thinkscale ask --json` prints it
);
CREATE TABLE IF NOT EXISTS traces (
    id          INTEGER PRIMARY KEY,
    run         TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    role        TEXT NOT NULL,
    path        TEXT NOT NULL,         -- 3/0/1
    prompt      TEXT NOT NULL,         -- JSON messages
    finish      TEXT NOT NULL,
    stop_string TEXT,
    answer      TEXT,
    answer_key  TEXT,
    error       TEXT,
    pool        INTEGER,               -- place in the outcome's pool; NULL for steps on the way
    UNIQUE (run, role, prompt, path)
);
CREATE TABLE IF NOT EXISTS segments (
    trace    INTEGER NOT NULL REFERENCES traces (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    origin   TEXT NOT NULL,
    text     TEXT NOT NULL,
    tokens   INTEGER NOT NULL,
    model    TEXT NOT NULL,
    detail   TEXT,                     -- JSON: token ids, log-probabilities, tool calls
    PRIMARY KEY (trace, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scores (
    trace    INTEGER NOT NULL REFERENCES traces (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    value    REAL,                     -- NULL stands for minus infinity
    detail   TEXT NOT NULL,            -- JSON
    PRIMARY KEY (trace, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS completions (
    key  TEXT PRIMARY KEY,             -- request name + seed
    body TEXT NOT NULL                 -- JSON
) WITHOUT ROWID;

-- Runs, the traces they are made of, and every completion ever paid for. `PRAGMA user_version` is the schema version.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,            -- rules: those of the newest run, as in `runs`
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE runs (
    id      TEXT PRIMARY KEY,          -- a name for question, method, model, seed, budget and rules together
    started REAL NOT NULL,             -- seconds since 1970
    status  TEXT NOT NULL,             -- running | done | interrupted
    method  TEXT NOT NULL,             -- spec string
    model   TEXT NOT NULL,
    seed    TEXT NOT NULL,             -- an integer of any size
    budget  TEXT NOT NULL,
    problem TEXT NOT NULL,             -- JSON
    outcome TEXT,                      -- JSON as `thinkscale ask --json` prints it
    rules   TEXT NOT NULL DEFAULT '{"seeds": 1, "keys": 1, "classes": 1}' -- JSON: the version of each that it was made under
);
CREATE TABLE prompts (
    run      TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    name     TEXT NOT NULL,            -- hash of the messages
    messages TEXT NOT NULL,            -- JSON
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE TABLE traces (
    run    TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    role   TEXT NOT NULL,
    prompt TEXT NOT NULL,              -- its name in `prompts`
    path   TEXT NOT NULL,              -- 3/0/1
    pool   INTEGER,                    -- place in the outcome's pool; NULL for steps on the way
    body   TEXT NOT NULL,              -- JSON: segments, finish, answer, scores, error
    PRIMARY KEY (run, role, prompt, path)
) WITHOUT ROWID;
CREATE TABLE pools (
    name     TEXT NOT NULL,            -- of the pool: all recorded attempts of one source at one task
    position INTEGER NOT NULL,
    run      TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    gold     TEXT NOT NULL,            -- JSON list of reference answers; no method reads this table
    credits  TEXT NOT NULL,            -- JSON object: what each answer's key is worth, from 0 to 1
    PRIMARY KEY (name, position)
) WITHOUT ROWID;
CREATE TABLE completions (
    key  TEXT PRIMARY KEY,             -- request name + seed
    body TEXT NOT NULL                 -- JSON
) WITHOUT ROWID;
CREATE TABLE claims (
    key    TEXT PRIMARY KEY,           -- of a completion that somebody is drawing
    holder TEXT NOT NULL,              -- who: a random name of an open store
    until  REAL NOT NULL               -- seconds since 1970; later it is anybody's
) WITHOUT ROWID;
CREATE TABLE verdicts (
    kind    TEXT NOT NULL,             -- of answers
    version INTEGER NOT NULL,          -- of the comparison that said so
    one     TEXT NOT NULL,             -- key of an answer
    other   TEXT NOT NULL,             -- key of another
    verdict TEXT NOT NULL,
    PRIMARY KEY (kind, version, one, other)
) WITHOUT ROWID;
CREATE TABLE keys (
    id      TEXT PRIMARY KEY,          -- the part of the key that may be shown
    name    TEXT NOT NULL,             -- whose it is
    hash    BLOB NOT NULL,             -- SHA-256 of the whole key; the key itself is kept nowhere
    limits  TEXT NOT NULL,             -- JSON
    created REAL NOT NULL,             -- seconds since 1970
    revoked REAL                       -- seconds since 1970; NULL while it is good
);
CREATE TABLE spending (
    key      TEXT NOT NULL REFERENCES keys (id),
    span     INTEGER NOT NULL,         -- length of the bucket in seconds: a minute or a day
    start    INTEGER NOT NULL,         -- beginning of the bucket, seconds since 1970, a multiple of `span`
    requests INTEGER NOT NULL,
    tokens   INTEGER NOT NULL,         -- generated
    nanousd  INTEGER NOT NULL,         -- billionths of a dollar, because sums of integers are exact
    PRIMARY KEY (key, span, start)
) WITHOUT ROWID;

# SPDX-License-Identifier: Apache-2.0
"""The tables of library.db, as the steps that made them.

content   one row for each published version; the row is what makes content exist
file      its files, by path; counting these rows is counting who needs a blob, so that no counter can be wrong
tag       its tags, for queries
blob      every blob that is whole and in place, with the root that holds it
root      the folders that hold blobs
loose     places where a file may lie that no blob row vouches for: written before a rename makes the file, and in the
          very transaction that takes the row away; opening looks at these places and at no others
counter   numbers that count on over restarts
fact      texts that stay: "library", the name of this library that its roots carry
total     one row: how many contents and blobs there are, and their bytes; `used_bytes` are those of the blobs that some file
          is made of. Kept in the transactions that change them (tally.py)
"""

from __future__ import annotations

_FIRST = """
CREATE TABLE content (
    package_id TEXT NOT NULL,
    source_version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    slab_count INTEGER NOT NULL,
    images TEXT NOT NULL,
    added_at REAL NOT NULL,
    manifest TEXT NOT NULL,
    PRIMARY KEY (package_id, source_version)
) WITHOUT ROWID;
CREATE INDEX content_by_blob ON content (sha256);
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_FILES_AND_ROOTS = """
ALTER TABLE content RENAME TO old_content;
DROP INDEX content_by_blob;
CREATE TABLE root (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL UNIQUE,
    reserve_bytes INTEGER NOT NULL,
    state TEXT NOT NULL
);
CREATE TABLE blob (
    id INTEGER PRIMARY KEY,
    sha256 TEXT NOT NULL UNIQUE,
    size_bytes INTEGER NOT NULL,
    root INTEGER NOT NULL REFERENCES root (id),
    state TEXT NOT NULL
);
CREATE INDEX blob_by_root ON blob (root, sha256);
CREATE INDEX blob_that_is_damaged ON blob (sha256) WHERE state = 'damaged';
CREATE TABLE content (
    id INTEGER PRIMARY KEY,
    package_id TEXT NOT NULL,
    source_version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    format TEXT NOT NULL,
    name TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    slab_count INTEGER NOT NULL,
    file_count INTEGER NOT NULL,
    images TEXT NOT NULL,
    tags TEXT NOT NULL,
    added_at REAL NOT NULL,
    manifest TEXT NOT NULL,
    directories TEXT NOT NULL,
    UNIQUE (package_id, source_version)
);
CREATE INDEX content_by_manifest ON content (manifest);
CREATE TABLE file (
    content INTEGER NOT NULL REFERENCES content (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    blob INTEGER NOT NULL REFERENCES blob (id),
    PRIMARY KEY (content, path)
) WITHOUT ROWID;
CREATE INDEX file_by_blob ON file (blob);
CREATE TABLE tag (
    tag TEXT NOT NULL,
    content INTEGER NOT NULL REFERENCES content (id) ON DELETE CASCADE,
    PRIMARY KEY (tag, content)
) WITHOUT ROWID;
CREATE INDEX tag_by_content ON tag (content);
CREATE TABLE loose (sha256 TEXT NOT NULL, root INTEGER NOT NULL, PRIMARY KEY (sha256, root)) WITHOUT ROWID;
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO fact VALUES ('library', lower(hex(randomblob(16))));
INSERT INTO root VALUES (0, '', 0, 'active');
INSERT INTO blob (sha256, size_bytes, root, state) SELECT sha256, max(size_bytes), 0, 'here' FROM old_content GROUP BY sha256;
INSERT INTO content (package_id, source_version, kind, format, name, size_bytes, sha256, slab_count, file_count, images,
                     tags, added_at, manifest, directories)
    SELECT package_id, source_version, CASE kind WHEN 'wim' THEN 'os-image' ELSE 'file' END, kind, name, size_bytes, sha256,
           slab_count, 1, images, '[]', added_at, manifest, '[]'
    FROM old_content;
INSERT INTO file SELECT content.id, content.name, blob.id FROM content JOIN blob USING (sha256);
DROP TABLE old_content;
"""
_TOTALS = """
CREATE TABLE total (
    contents INTEGER NOT NULL,
    content_bytes INTEGER NOT NULL,
    blobs INTEGER NOT NULL,
    blob_bytes INTEGER NOT NULL,
    used_bytes INTEGER NOT NULL
);
INSERT INTO total SELECT
    (SELECT count(*) FROM content), (SELECT ifnull(sum(size_bytes), 0) FROM content),
    (SELECT count(*) FROM blob), (SELECT ifnull(sum(size_bytes), 0) FROM blob),
    (SELECT ifnull(sum(size_bytes), 0) FROM blob WHERE EXISTS (SELECT 1 FROM file WHERE file.blob = blob.id));
CREATE TRIGGER content_comes AFTER INSERT ON content BEGIN
    UPDATE total SET contents = contents + 1, content_bytes = content_bytes + NEW.size_bytes;
END;
CREATE TRIGGER content_goes AFTER DELETE ON content BEGIN
    UPDATE total SET contents = contents - 1, content_bytes = content_bytes - OLD.size_bytes;
END;
"""
MIGRATIONS = (_FIRST, _FILES_AND_ROOTS, _TOTALS)

//! The store as a daemon uses it: opened, refused, written, killed and opened again.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};
use store::{ErrorKind, Migration, Record, Schema, Store, StoreError, Tables, migrator};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pair {
    name: String,
    value: u64,
}

impl Record for Pair {
    const TABLE: &'static str = "pairs";
    type Key = String;

    fn key(&self) -> &String {
        &self.name
    }
}

/// A [`Pair`] as the next version of the program has it.
#[derive(Serialize, Deserialize)]
struct Text {
    name: String,
    value: String,
}

impl Record for Text {
    const TABLE: &'static str = "pairs";
    type Key = String;

    fn key(&self) -> &String {
        &self.name
    }
}

const SCHEMA: Schema = Schema {
    version: 1,
    migrations: &[],
};

/// The next version of the program: its pairs hold the double of the value, in text.
const NEXT: Schema = Schema {
    version: 2,
    migrations: &[Migration {
        to: 2,
        up: |tables| {
            change(tables, |value| {
                let doubled = value.as_u64().unwrap() * 2;
                doubled.to_string().into()
            })
        },
        down: |tables| {
            change(tables, |value| {
                let doubled: u64 = value.as_str().unwrap().parse().unwrap();
                (doubled / 2).into()
            })
        },
    }],
};

fn change(tables: &Tables<'_>, change: fn(&Value) -> Value) -> Result<(), StoreError> {
    tables.rewrite("pairs", |_, mut record| {
        record["value"] = change(&record["value"]);
        Ok(Some(record))
    })
}

fn open(folder: &Path) -> Result<Store, StoreError> {
    Store::open(folder, &SCHEMA, Path::new("/nonexistent"))
}

fn pair(name: &str, value: u64) -> Pair {
    Pair {
        name: name.to_owned(),
        value,
    }
}

fn put(store: &Store, pairs: &[Pair]) -> Result<(), StoreError> {
    store.write(|writer| pairs.iter().try_for_each(|pair| writer.put(pair)))
}

fn all(store: &Store) -> Vec<Pair> {
    store.read::<_, StoreError>(|reader| reader.list()).unwrap()
}

#[test]
fn lists_what_begins_alike() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let pairs = ["a", "ab", "ab c", "ab d", "abc", "b"].map(|name| pair(name, 1));
    put(&store, &pairs).unwrap();
    let under = |prefix: &str| {
        let listed = store.write::<_, StoreError>(|writer| writer.list_under::<Pair>(prefix));
        listed.unwrap()
    };
    assert_eq!(under("ab "), pairs[2..4]);
    assert_eq!(under("ab"), pairs[1..5]);
    assert_eq!(under("c"), []);
}

#[test]
fn keeps_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = open(folder.path()).unwrap();
        assert_eq!(all(&store), []);
        put(&store, &[pair("b", 2), pair("a", 1)]).unwrap();
        put(&store, &[pair("b", 3)]).unwrap();
        assert!(
            store
                .write::<_, StoreError>(|writer| writer.delete::<Pair>(&"a".to_owned()))
                .unwrap()
        );
        assert!(
            !store
                .write::<_, StoreError>(|writer| writer.delete::<Pair>(&"a".to_owned()))
                .unwrap()
        );
        store
            .write_volatile(|writer| writer.put(&pair("c", 4)))
            .unwrap();
        assert_eq!(all(&store), [pair("b", 3), pair("c", 4)]);
    }
    let store = open(folder.path()).unwrap();
    let found = store
        .read::<_, StoreError>(|reader| reader.get::<Pair>(&"b".to_owned()))
        .unwrap();
    assert_eq!(found, Some(pair("b", 3)));
}

#[test]
fn a_failed_change_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    put(&store, &[pair("a", 1)]).unwrap();
    let failed: Result<(), Failure> = store.write(|writer| {
        writer.put(&pair("a", 2))?;
        writer.put(&pair("b", 2))?;
        Err(Failure::ChangedMyMind)
    });
    assert!(matches!(failed, Err(Failure::ChangedMyMind)));
    assert_eq!(all(&store), [pair("a", 1)]);
}

#[derive(Debug)]
enum Failure {
    ChangedMyMind,
    Store(#[expect(dead_code, reason = "shown when a test fails")] StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[test]
fn a_second_daemon_is_told_who_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let error = open(folder.path()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InUse);
    let text = error.to_string();
    assert!(
        text.contains(&folder.path().display().to_string()),
        "{text}"
    );
    assert!(
        text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    drop(store);
    open(folder.path()).unwrap();
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    {
        let database = redb::Database::create(folder.path().join("state.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");
        transaction
            .open_table(meta)
            .unwrap()
            .insert("schema_version", 99)
            .unwrap();
        transaction.commit().unwrap();
    }
    let error = open(folder.path()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Newer { found: 99 });
    assert!(error.to_string().contains("schema 99"), "{error}");
    assert!(error.next_step().contains("newer daemon"));
}

#[test]
fn a_damaged_file_is_named() {
    for content in [
        &b"this is not a store, whatever its name says"[..],
        &[0_u8; 8192],
        &[0xff_u8; 100_000],
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("state.redb"), content).unwrap();
        let error = open(folder.path()).err().unwrap();
        assert_eq!(
            error.kind(),
            ErrorKind::Corrupt,
            "{error}: {:?}",
            std::error::Error::source(&error)
        );
        assert!(error.to_string().contains("state.redb"), "{error}");
        assert!(error.next_step().contains("Move the file away"));
    }
}

#[test]
fn a_record_that_cannot_be_read_is_named() {
    #[derive(Serialize, Deserialize)]
    struct Other {
        name: String,
        value: String,
    }
    impl Record for Other {
        const TABLE: &'static str = "pairs";
        type Key = String;
        fn key(&self) -> &String {
            &self.name
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    store
        .write::<_, StoreError>(|writer| {
            writer.put(&Other {
                name: "a".into(),
                value: "one".into(),
            })
        })
        .unwrap();
    let error = store
        .read::<_, StoreError>(|reader| reader.list::<Pair>())
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Record);
    assert!(
        error.to_string().contains("record a of table pairs"),
        "{error}"
    );
}

/// Every change sets both records to the same value: no state in between may ever be seen.
fn assert_whole(store: &Store) -> u64 {
    let pairs = all(store);
    match pairs.as_slice() {
        [] => 0,
        [left, right] => {
            assert_eq!(left.value, right.value);
            left.value
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_copy_taken_at_any_commit_opens_at_that_commit() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    for value in 1..=20 {
        put(&store, &[pair("left", value), pair("right", value)]).unwrap();
        // What a crash right after the commit would leave: the file was not closed.
        let copy = tempfile::tempdir().unwrap();
        fs::copy(store.path(), copy.path().join("state.redb")).unwrap();
        assert_eq!(assert_whole(&open(copy.path()).unwrap()), value);
    }
}

const CHILD_FOLDER: &str = "STORE_TEST_CHILD_FOLDER";

/// Not a test of its own: the process that `killed_in_mid_write_…` kills.
#[test]
fn child_writes_until_killed() {
    let Ok(folder) = std::env::var(CHILD_FOLDER) else {
        return;
    };
    let store = open(Path::new(&folder)).unwrap();
    for value in assert_whole(&store) + 1.. {
        put(&store, &[pair("left", value), pair("right", value)]).unwrap();
        println!("\ncommitted {value}");
    }
}

#[test]
fn killed_in_mid_write_it_keeps_what_it_committed() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=5_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_writes_until_killed", "--nocapture"])
            .env(CHILD_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut committed = lines.map_while(Result::ok).filter_map(|line| {
            line.strip_prefix("committed ")
                .and_then(|value| value.parse::<u64>().ok())
        });
        let mut last = committed.nth(round * 7).unwrap();
        child.kill().unwrap();
        last = committed.last().unwrap_or(last);
        child.wait().unwrap();
        // The lock went with the process; the last commit, told or not, is there whole.
        let found = assert_whole(&open(folder.path()).unwrap());
        assert!(found == last || found == last + 1, "{found} after {last}");
    }
}

#[test]
fn a_store_goes_to_the_next_schema_and_back_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::write(&program, "the newer program").unwrap();
    put(&open(folder.path()).unwrap(), &[pair("a", 1), pair("b", 2)]).unwrap();

    let store = Store::open(folder.path(), &NEXT, &program).unwrap();
    let records = store
        .read::<Vec<Text>, StoreError>(|reader| reader.list())
        .unwrap();
    let values: Vec<_> = records.iter().map(|record| record.value.as_str()).collect();
    assert_eq!(values, ["2", "4"]);
    // Written by the newer program, and there for the older one.
    let new = Text {
        name: "c".into(),
        value: "6".into(),
    };
    store
        .write::<_, StoreError>(|writer| writer.put(&new))
        .unwrap();
    drop(store);

    let error = open(folder.path()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Newer { found: 2 });
    let left = migrator(folder.path(), 2).unwrap();
    assert_eq!(fs::read_to_string(left).unwrap(), "the newer program");
    assert_eq!(Store::migrate(folder.path(), &NEXT, 1).unwrap(), 2);
    let expected = [pair("a", 1), pair("b", 2), pair("c", 3)];
    assert_eq!(all(&open(folder.path()).unwrap()), expected);
    assert_eq!(
        Store::migrate(folder.path(), &NEXT, 1).unwrap(),
        1,
        "once more changes nothing"
    );
    assert_eq!(all(&open(folder.path()).unwrap()), expected);
}

#[test]
fn a_migration_that_fails_half_way_changes_nothing() {
    const BROKEN: Schema = Schema {
        version: 2,
        migrations: &[Migration {
            to: 2,
            up: |tables| {
                change(tables, |_| Value::Null)?;
                // A record the step cannot read.
                tables.rewrite("odd", |_, record| Ok(Some(record)))
            },
            down: |_| Ok(()),
        }],
    };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::write(&program, "").unwrap();
    put(&open(folder.path()).unwrap(), &[pair("a", 1)]).unwrap();
    {
        let database = redb::Database::open(folder.path().join("state.redb")).unwrap();
        let write = database.begin_write().unwrap();
        let odd: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("odd");
        write
            .open_table(odd)
            .unwrap()
            .insert("x", &b"not JSON"[..])
            .unwrap();
        write.commit().unwrap();
    }
    let error = Store::open(folder.path(), &BROKEN, &program).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Record);
    assert_eq!(all(&open(folder.path()).unwrap()), [pair("a", 1)]);
}

#[test]
fn a_schema_whose_way_is_not_known_is_refused_in_words() {
    const FAR: Schema = Schema {
        version: 3,
        migrations: &[Migration {
            to: 3,
            up: |_| Ok(()),
            down: |_| Ok(()),
        }],
    };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::write(&program, "").unwrap();
    drop(open(folder.path()).unwrap());
    let error = Store::open(folder.path(), &FAR, &program).err().unwrap();
    assert!(error.next_step().contains("smaller steps"), "{error}");
    let error = Store::migrate(folder.path(), &SCHEMA, 2).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Newer { found: 2 });
    open(folder.path()).unwrap();
}

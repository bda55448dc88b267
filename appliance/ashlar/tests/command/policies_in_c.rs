//! `ashlar plugins new|build|test` with `--lang c`: what is made builds, is a component of its world, and is held to what every policy
//! must keep. clang and lld are among what the set-up of the tests installs; without them these tests fail, and say so.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use wit_component::DecodedWasm;

use crate::host::{Ran, run_with};

/// A policy as `plugins new` makes it.
struct Project {
    _folder: TempDir,
    path: PathBuf,
}

impl Project {
    async fn new(kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine");
        let text = path.to_str().unwrap();
        let command = [
            "plugins", "new", "mine", "--kind", kind, "--lang", "c", "--path", text,
        ];
        let made = run_with(&[], &command).await.ok();
        assert!(made.contains("src/policy.c decides"), "{made}");
        Self {
            _folder: folder,
            path,
        }
    }

    async fn run(&self, command: &str) -> Ran {
        run_with(&[], &["plugins", command, self.path.to_str().unwrap()]).await
    }

    /// Has other text where the policy has `from`.
    fn change(&self, from: &str, to: &str) {
        let file = self.path.join("src/policy.c");
        let source = fs::read_to_string(&file).unwrap();
        assert!(source.contains(from), "{from} is not in\n{source}");
        fs::write(&file, source.replace(from, to)).unwrap();
    }
}

/// What a component imports and exports, sorted.
fn interfaces(component: &Path) -> [Vec<String>; 2] {
    let decoded = wit_component::decode(&fs::read(component).unwrap()).unwrap();
    let DecodedWasm::Component(resolve, world) = decoded else {
        panic!("{} is no component", component.display());
    };
    let world = &resolve.worlds[world];
    [&world.imports, &world.exports].map(|items| {
        let mut names: Vec<String> = items
            .keys()
            .map(|key| resolve.name_world_key(key))
            .collect();
        names.sort();
        names
    })
}

#[tokio::test]
async fn a_policy_of_each_kind_builds_and_keeps_what_it_must() {
    for (kind, exports) in [
        ("scheduler", &["scheduling"][..]),
        ("billing", &["commerce", "metering", "rating"]),
        ("admission", &["admitting"]),
    ] {
        let project = Project::new(kind).await;
        let tested = project.run("test").await;
        assert!(tested.stderr.contains("400 situations"), "{tested:?}");
        assert!(!tested.stderr.contains("warning"), "{tested:?}");
        let text = tested.ok();
        assert!(
            text.contains("mine.wasm") && text.contains("sha256"),
            "{text}"
        );
        let component = project.path.join("target/mine.wasm");
        let first = fs::read(&component).unwrap();
        let [imports, exported] = interfaces(&component);
        let versioned = |name: &&str| format!("ashlar:policy/{name}@0.4.0");
        let expected: Vec<String> = exports.iter().map(versioned).collect();
        assert_eq!(exported, expected);
        let known = ["log", "random"].each_ref().map(versioned);
        assert!(
            imports.iter().all(|name| known.contains(name)),
            "{imports:?}"
        );
        project.run("build").await.ok();
        assert_eq!(
            fs::read(&component).unwrap(),
            first,
            "{kind}: the same sources"
        );
    }
}

#[tokio::test]
async fn what_a_policy_does_wrong_is_found_by_its_tests() {
    for (kind, from, to, said) in [
        (
            "scheduler",
            "obstacle(hosts, host, request)",
            "NULL",
            "has a score although it does not meet",
        ),
        (
            "scheduler",
            "scored(1000.0",
            "scored(0.0 / (double)keep_free",
            "has the score",
        ),
        (
            "scheduler",
            "static uint64_t keep_free;",
            "static uint64_t keep_free;\nstatic double asked;\n#define scored(score) scored((score) + asked++)",
            "asked again, it says something else",
        ),
        (
            "scheduler",
            "scored(1000.0",
            "scored((1 << request->vcpus) * 1000.0",
            "C leaves undefined",
        ),
        (
            "scheduler",
            "\"keep-free\", 0, 90",
            "\"keep-free\", 0, 99",
            "which make no sense",
        ),
        (
            "billing",
            "multiply(price, interval->seconds)",
            "multiply(price, 5000000 - interval->seconds)",
            "but only",
        ),
        (
            "billing",
            "instance_of(usage) == NULL && usage->tag != DISK_ALLOCATED",
            "true",
            "prices nothing",
        ),
        (
            "billing",
            "string currency(void) {",
            "bool exports_ashlar_policy_metering_meters(exports_ashlar_policy_metering_list_parameter_t *parameters,
    exports_ashlar_policy_metering_instance_t *instance, exports_ashlar_policy_metering_list_meter_t *meters, string *error) {
    (void)parameters, (void)error;
    meters->len = 1;
    meters->ptr = allocate(1, sizeof *meters->ptr);
    meters->ptr[0] = (exports_ashlar_policy_metering_meter_t){words(\"licence\"), written(whole(instance->size.vcpus - 1)), true};
    return true;
}

string currency(void) {",
            "of licence there is `0`",
        ),
        (
            "admission",
            "tag_of(request, \"team\") == NULL",
            "true",
            "which is there already",
        ),
        (
            "admission",
            "\"too-large\"",
            "\"Too large\"",
            "characters of a-z",
        ),
        (
            "admission",
            "words(\" were asked for.\")",
            "words(\"\\n\")",
            "is no sentence",
        ),
        (
            "admission",
            "{.add_tags = {label, 1}}",
            "{.zone = {true, words(\"moon\")}}",
            "zone",
        ),
    ] {
        let project = Project::new(kind).await;
        project.change(from, to);
        let tested = project.run("test").await;
        assert_eq!(tested.status, 1, "{kind}, {to}: {tested:?}");
        assert!(tested.stderr.contains(said), "{kind}, {to}: {tested:?}");
    }
}

#[tokio::test]
async fn a_billing_policy_may_make_a_commercial_decision_itself() {
    let project = Project::new("billing").await;
    project.change(
        "string currency(void) {",
        "bool exports_ashlar_policy_commerce_arrears(exports_ashlar_policy_commerce_list_parameter_t *parameters,
    exports_ashlar_policy_commerce_debt_t *debt, exports_ashlar_policy_commerce_arrears_step_t *step, string *error) {
    (void)parameters, (void)debt, (void)error;
    *step = EXPORTS_ASHLAR_POLICY_COMMERCE_ARREARS_STEP_WAIT;
    return true;
}

string currency(void) {",
    );
    project.run("test").await.ok();
}

#[tokio::test]
async fn what_cannot_be_built_says_why() {
    let project = Project::new("admission").await;
    let path = project.path.to_str().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let environment = [("PATH", empty.path().to_str().unwrap())];
    let refused = run_with(&environment, &["plugins", "build", path])
        .await
        .failed(1);
    assert!(refused.contains("`apt install clang lld`"), "{refused}");
    project.change("bool admit(", "bool admits(");
    let refused = project.run("build").await;
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("clang says why above"),
        "{refused:?}"
    );
    fs::remove_file(project.path.join("src/policy.c")).unwrap();
    let refused = project.run("build").await.failed(1);
    assert!(refused.contains("holds no C sources"), "{refused}");
    fs::write(project.path.join("policy.toml"), "name = \"mine\"").unwrap();
    let refused = project.run("build").await.failed(2);
    assert!(refused.contains("policy.toml"), "{refused}");
    fs::remove_file(project.path.join("policy.toml")).unwrap();
    let refused = project.run("build").await.failed(2);
    assert!(
        refused.contains("neither Cargo.toml nor policy.toml"),
        "{refused}"
    );
}

//! Components made from text. The tests of the whole host take this file, too.

use std::path::Path;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A component of `world` around a core module.
pub fn component(world: &str, module: &str) -> Vec<u8> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut above = package.ancestors().map(|folder| folder.join("plugins/wit"));
    let wit = above.find(|folder| folder.is_dir()).unwrap();
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    let mut encoder = ComponentEncoder::default();
    let encoder = encoder.validate(true).module(&module).unwrap();
    encoder.encode().unwrap()
}

/// What every core module needs: memory, an allocator that never frees, and `check-configuration` that finds all well.
/// Address 1024 holds an `ok` without a value.
pub const COMMON: &str = r#"
  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 8192))
  (func (export "cabi_realloc") (param $old i32) (param $was i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (block $fits (loop $grow
      (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
      unreachable))
    (local.get $at))
"#;

/// A scheduler whose `filter-and-score` runs `body` and returns the address that leaves on the stack; `more` comes before it.
/// It takes every table, and has no answer to `place`.
pub fn scheduler(more: &str, body: &str) -> Vec<u8> {
    let well = "(i32.const 1024)";
    scheduler_with(&Exports {
        more,
        check_configuration: well,
        load: well,
        update: well,
        filter_and_score: body,
        place: "unreachable",
    })
}

/// The bodies of a scheduler's exports; each leaves the address of its answer on the stack.
pub struct Exports<'a> {
    pub more: &'a str,
    pub check_configuration: &'a str,
    pub load: &'a str,
    pub update: &'a str,
    pub filter_and_score: &'a str,
    pub place: &'a str,
}

/// A scheduler of these bodies.
pub fn scheduler_with(exports: &Exports<'_>) -> Vec<u8> {
    let Exports {
        more,
        check_configuration,
        load,
        update,
        filter_and_score,
        place,
    } = exports;
    let name = "ashlar:policy/scheduling@0.4.0";
    let module = format!(
        r#"(module {more} {COMMON}
          (func (export "{name}#check-configuration") (param i32 i32) (result i32) {check_configuration})
          (func (export "{name}#load") (param i32) (result i32) {load})
          (func (export "{name}#update") (param i32) (result i32) {update})
          (func (export "{name}#filter-and-score") (param i32) (result i32) {filter_and_score})
          (func (export "{name}#place") (param i32 i32 i32 i32) (result i32) {place}))"#
    );
    component("scheduler", &module)
}

/// A billing policy whose `rate` runs `body`. It makes no commercial decision.
pub fn billing(more: &str, body: &str) -> Vec<u8> {
    billing_with(&BillingExports {
        more,
        rate: body,
        quote: "unreachable",
        renewal: "unreachable",
        arrears: "unreachable",
        preempt: "unreachable",
        meters: "unreachable",
    })
}

/// The bodies of a billing policy's exports; each leaves the address of its answer on the stack.
pub struct BillingExports<'a> {
    pub more: &'a str,
    pub rate: &'a str,
    pub quote: &'a str,
    pub renewal: &'a str,
    pub arrears: &'a str,
    pub preempt: &'a str,
    pub meters: &'a str,
}

/// A billing policy of these bodies.
pub fn billing_with(exports: &BillingExports<'_>) -> Vec<u8> {
    let BillingExports {
        more,
        rate,
        quote,
        renewal,
        arrears,
        preempt,
        meters,
    } = exports;
    let metering = "ashlar:policy/metering@0.4.0";
    let instance = "i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32";
    let (rating, commerce) = ("ashlar:policy/rating@0.4.0", "ashlar:policy/commerce@0.4.0");
    let debt = "i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i64 i32 i64";
    let module = format!(
        r#"(module {more} {COMMON}
          (func (export "{rating}#check-configuration") (param i32 i32) (result i32) (i32.const 1024))
          (func (export "{rating}#rate") (param i32 i32 i32 i32 i32 i32) (result i32) {rate})
          (func (export "{commerce}#quote") (param i32) (result i32) {quote})
          (func (export "{commerce}#renewal") (param i32) (result i32) {renewal})
          (func (export "{commerce}#arrears") (param {debt}) (result i32) {arrears})
          (func (export "{commerce}#preempt") (param i32 i32 i32 i32 i32 i64 i64) (result i32) {preempt})
          (func (export "{metering}#meters") (param {instance}) (result i32) {meters}))"#
    );
    component("billing", &module)
}

//! The policy in C: bindings made of the WIT package, compiled and linked by clang, and a component made of that.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wit_bindgen_core::{Files, wit_parser::Resolve};
use wit_component::ComponentEncoder;

use super::{OTHER_POLICIES, PLUGINS, Stamp, copy, files_in};
use crate::command::Invocation;
use crate::hash::Inputs;
use crate::{paths, progress, setup};

const POLICY: &str = "billing-flat-c";
const WORLD: &str = "billing";
/// In the policy's folder: what it and its bindings need of C's library.
const LIBRARY: &str = "library";
/// The compiler, and the linker that it runs; each with its Debian package.
const PROGRAMS: [(&str, &str); 2] = [("clang", "clang"), ("wasm-ld", "lld")];
/// What every source is compiled and linked with: there is no library but what the policy brings.
const FLAGS: [&str; 9] = [
    "--target=wasm32-unknown-unknown",
    "-std=c17",
    "-O2",
    "-mbulk-memory",
    "-Wall",
    "-Wextra",
    "-nostdlib",
    "-ffreestanding",
    "-Wl,--no-entry,--strip-debug",
];

/// Builds it beside the other policies, unless it is there and made of the same sources.
pub fn build(force: bool) -> Result<()> {
    let source = PLUGINS.dir().join(POLICY);
    let wit = PLUGINS.dir().join("wit");
    let product = paths::out_dir(OTHER_POLICIES)?.join(format!("{POLICY}.wasm"));
    let mut inputs = Inputs::default();
    inputs.text(&FLAGS.join(" ")).tree(&source)?.tree(&wit)?;
    let digest = inputs.digest();
    let stamp = Stamp(paths::out().join(format!("{POLICY}.stamp")));
    if !force && stamp.products(&digest).is_some() {
        return Ok(());
    }
    progress::step(&format!("build plugins/{POLICY} with clang"), || {
        install_missing()?;
        stamp.remove();
        let work = paths::target().join(POLICY);
        let module = work.join("module.wasm");
        let library = source.join(LIBRARY);
        let mut sources = [files_in(&source, "c")?, files_in(&library, "c")?].concat();
        sources.extend(bindings(&wit, &work)?);
        Invocation::new("clang")
            .args(FLAGS)
            .arg("-I")
            .arg(&library)
            .arg("-I")
            .arg(&work)
            .args(&sources)
            .arg("-o")
            .arg(&module)
            .run()?;
        let made = component(&module)?;
        copy(&made, &product)?;
        stamp.write(&digest, std::slice::from_ref(&product))
    })
}

fn install_missing() -> Result<()> {
    let missing = PROGRAMS
        .iter()
        .filter(|(program, _)| paths::find_program(program).is_none());
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    setup::install(&packages)
}

/// The bindings in `work`, which is emptied: what is to be compiled or linked of them.
fn bindings(wit: &Path, work: &Path) -> Result<Vec<PathBuf>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit)?;
    let world = resolve.select_world(&[package], Some(WORLD))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default()
        .build()
        .generate(&mut resolve, world, &mut files)?;
    let write = |name: &str, content: &[u8]| {
        let file = work.join(name);
        std::fs::write(&file, content)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok((!name.ends_with(".h")).then_some(file))
    };
    let _ = std::fs::remove_dir_all(work);
    std::fs::create_dir_all(work).with_context(|| format!("cannot create {}", work.display()))?;
    files
        .iter()
        .filter_map(|(name, content)| write(name, content).transpose())
        .collect()
}

/// The component of a module that has the object with its world's types linked in; beside the module.
fn component(module: &Path) -> Result<PathBuf> {
    let bytes =
        std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&bytes)?
        .encode()?;
    let file = module.with_file_name("component.wasm");
    std::fs::write(&file, component).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

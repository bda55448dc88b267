//! Policies in C: clang makes components of their sources, and programs of their tests.
//!
//! ```text
//! WIT package ─► bindings ─┬─► clang for WebAssembly, with sdk-c/library ─► module ─► component
//!    policy, sdk-c/common ─┼
//!         and sdk-c/<kind> └─► clang for this machine, with sdk-c/check ──► program of the tests
//! ```
//!
//! Natively nothing but the header of the bindings is used: the checks call the functions that a component exports, and define the few
//! that it imports. This crate knows clang and the folders of `plugins/sdk-c`; it knows no host, and writes only where it is told to
//! work.

#![forbid(unsafe_code)]

mod clang;
mod error;

pub use clang::{Program, missing};
pub use error::Error;

use std::{
    error::Error as Cause,
    fs,
    path::{Path, PathBuf},
};

use wit_bindgen_core::{Files, wit_parser::Resolve};
use wit_component::ComponentEncoder;

/// What worlds are called in the bindings, so that what is common to all kinds has one name for a string.
const WORLD: &str = "ashlar";
/// In the SDK: what every policy is compiled with.
const COMMON: &str = "common";
/// In the SDK: what components need of C's library.
const LIBRARY: &str = "library";
/// In the SDK: what the tests are compiled with; a file with the name of the kind, and these.
const CHECK: &str = "check";
const CHECK_COMMON: &str = "check.c";

/// Where the parts of a policy are.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// `scheduler`, `billing` or `admission`: its world, and a folder of the SDK.
    pub kind: &'a str,
    /// The folder with its sources, and theirs alone.
    pub sources: &'a Path,
    /// `plugins/sdk-c`, or a copy of it.
    pub sdk: &'a Path,
    /// The WIT package it is written against.
    pub wit: &'a Path,
    /// A folder for what is made on the way, which is emptied. One at a time may work there.
    pub work: &'a Path,
}

impl Policy<'_> {
    /// Makes its component. What clang has to say goes where this program's errors go.
    ///
    /// # Errors
    /// It does not compile, or is no component of its world; files cannot be read or written.
    pub fn build(&self) -> Result<Vec<u8>, Error> {
        let bindings = self.bindings()?;
        let library = self.sdk.join(LIBRARY);
        let sources = [self.own()?, c_files(&library)?, bindings].concat();
        let module = self.work.join("module.wasm");
        clang::module(
            &[&self.headers()[..], &[library]].concat(),
            &sources,
            &module,
        )?;
        let bytes = fs::read(&module).map_err(Error::file("cannot read", &module))?;
        component(&bytes)
    }

    /// Makes the program of the tests in the folder `tests`, which ends with status 0 if they pass.
    ///
    /// # Errors
    /// They do not compile; files cannot be read or written.
    pub fn build_tests(&self, tests: &Path) -> Result<PathBuf, Error> {
        self.bindings()?;
        let check = self.sdk.join(CHECK);
        let checks = [CHECK_COMMON.to_owned(), format!("{}.c", self.kind)];
        let checks: Vec<PathBuf> = checks.iter().map(|name| check.join(name)).collect();
        let sources = [self.own()?, c_files(tests)?, checks].concat();
        let program = self.work.join("tests");
        clang::program(
            &[&self.headers()[..], &[check]].concat(),
            &sources,
            &program,
        )?;
        Ok(program)
    }

    fn folders(&self) -> [PathBuf; 2] {
        [COMMON, self.kind].map(|folder| self.sdk.join(folder))
    }

    fn headers(&self) -> Vec<PathBuf> {
        let mut folders = self.folders().to_vec();
        folders.extend([self.work, self.sources].map(Path::to_owned));
        folders
    }

    /// The sources of the policy, and those of the SDK that define what its sources may use.
    fn own(&self) -> Result<Vec<PathBuf>, Error> {
        let mut files = c_files(self.sources)?;
        if files.is_empty() {
            return Err(Error::NoSources(self.sources.to_owned()));
        }
        for folder in self.folders() {
            files.extend(c_files(&folder)?);
        }
        Ok(files)
    }

    /// Writes the bindings into the emptied `work`; what is to be compiled or linked of them.
    fn bindings(&self) -> Result<Vec<PathBuf>, Error> {
        let files = generate(self.wit, self.kind).map_err(|source| Error::Interface {
            wit: self.wit.to_owned(),
            kind: self.kind.to_owned(),
            source,
        })?;
        if self.work.exists() {
            fs::remove_dir_all(self.work).map_err(Error::file("cannot empty", self.work))?;
        }
        fs::create_dir_all(self.work).map_err(Error::file("cannot create", self.work))?;
        let mut made = Vec::new();
        for (name, content) in files.iter() {
            let file = self.work.join(name);
            fs::write(&file, content).map_err(Error::file("cannot write", &file))?;
            if !name.ends_with(".h") {
                made.push(file);
            }
        }
        Ok(made)
    }
}

/// The bindings of a world of the package in the folder `wit`.
fn generate(wit: &Path, world: &str) -> Result<Files, Box<dyn Cause + Send + Sync>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit)?;
    let world = resolve.select_world(&[package], Some(world))?;
    let mut files = Files::default();
    let options = wit_bindgen_c::Opts {
        rename_world: Some(WORLD.to_owned()),
        ..Default::default()
    };
    options.build().generate(&mut resolve, world, &mut files)?;
    Ok(files)
}

/// The component of a module that has the object with its world's types linked in.
fn component(module: &[u8]) -> Result<Vec<u8>, Error> {
    let encode = || {
        ComponentEncoder::default()
            .validate(true)
            .module(module)?
            .encode()
    };
    encode().map_err(|source| Error::NoComponent(source.into()))
}

/// The C sources in a folder, by name.
fn c_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let cannot = || Error::file("cannot read", folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot())? {
        let path = entry.map_err(cannot())?.path();
        if path.extension().is_some_and(|end| end == "c") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

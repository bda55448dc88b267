//! Which shared libraries a program needs, read from the program itself (ELF gABI, "Dynamic Section").

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use object::{
    LittleEndian as LE,
    elf::{DT_NEEDED, FileHeader64, PT_INTERP},
    read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _},
};

use crate::BuildError;

/// The loader and the libraries that `program` needs, directly or not: path in the image → file of this machine. Libraries are
/// looked for in `folders`, in order, and keep the path they were found at.
///
/// # Errors
/// The program or a library cannot be read, or a library is in none of the folders.
pub fn needed(
    program: &Path,
    folders: &[PathBuf],
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    let mut found = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![program.to_owned()];
    while let Some(file) = open.pop() {
        let data = std::fs::read(&file).map_err(BuildError::io("read", &file))?;
        let wanted = read(&data).map_err(|error| {
            BuildError::because(
                format!("{} is no ELF file for this machine", file.display()),
                error,
            )
        })?;
        if let Some(interpreter) = wanted.interpreter {
            found.insert(interpreter.clone(), PathBuf::from(interpreter));
        }
        for name in wanted.libraries {
            if !seen.insert(name.clone()) {
                continue;
            }
            let path = folders
                .iter()
                .map(|folder| folder.join(&name))
                .find(|path| path.is_file())
                .ok_or_else(|| {
                    BuildError::new(format!(
                        "{} needs {name}, which is in none of the library folders: install the package that has it",
                        file.display()
                    ))
                })?;
            found.insert(path.to_string_lossy().into_owned(), path.clone());
            open.push(path);
        }
    }
    // The loader is a library too, under another name.
    let loaders: BTreeSet<_> = found
        .keys()
        .filter(|path| path.starts_with("/lib64/"))
        .filter_map(|path| path.rsplit('/').next().map(str::to_owned))
        .collect();
    found.retain(|path, _| {
        path.starts_with("/lib64/") || !path.rsplit('/').next().is_some_and(|n| loaders.contains(n))
    });
    Ok(found)
}

struct Wanted {
    interpreter: Option<String>,
    libraries: Vec<String>,
}

fn read(data: &[u8]) -> Result<Wanted, object::read::Error> {
    let header = FileHeader64::<LE>::parse(data)?;
    let endian = header.endian()?;
    let mut wanted = Wanted {
        interpreter: None,
        libraries: Vec::new(),
    };
    for segment in header.program_headers(endian, data)? {
        if segment.p_type(endian) == PT_INTERP
            && let Some(text) = segment
                .data(endian, data)
                .ok()
                .and_then(|text| text.split(|b| *b == 0).next())
        {
            wanted.interpreter = Some(String::from_utf8_lossy(text).into_owned());
        }
    }
    let sections = header.sections(endian, data)?;
    if let Some((dynamic, link)) = sections.dynamic(endian, data)? {
        let strings = sections.strings(endian, data, link)?;
        for entry in dynamic {
            if entry.tag(endian) == DT_NEEDED {
                let name = entry.string(endian, strings)?;
                wanted
                    .libraries
                    .push(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_libraries_are_found_with_its_loader() {
        let this = std::env::current_exe().unwrap();
        let folders = [
            "/lib/x86_64-linux-gnu",
            "/usr/lib/x86_64-linux-gnu",
            "/lib64",
            "/usr/lib64",
        ]
        .map(PathBuf::from);
        let found = needed(&this, &folders).unwrap();
        assert!(
            found.keys().any(|path| path.ends_with("/libc.so.6")),
            "{found:?}"
        );
        assert!(
            found.keys().any(|path| path.starts_with("/lib64/ld-linux")),
            "{found:?}"
        );
        assert!(found.values().all(|file| file.exists()), "{found:?}");
        let error = needed(&this, &[]).unwrap_err().to_string();
        assert!(error.contains("none of the library folders"), "{error}");
        assert!(needed(Path::new("/etc/passwd"), &[]).is_err());
    }
}

//! Embeds the policy SDKs and their interface, so that `ashlar plugins new` needs nothing but this program.

use std::{
    env, fs,
    io::Result,
    path::{Path, PathBuf},
};

fn main() -> Result<()> {
    let root = Path::new(&var("CARGO_MANIFEST_DIR")).join("../../plugins");
    let mut files = vec![root.join("Cargo.toml"), root.join("Cargo.lock")];
    for folder in ["sdk", "sdk-c", "wit"] {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.strip_prefix(&root).map_err(std::io::Error::other)?;
        list += &format!("({name:?}, include_str!({file:?})),\n");
    }
    list.push(']');
    fs::write(Path::new(&var("OUT_DIR")).join("sdk.rs"), list)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let named = path.file_name().and_then(|name| name.to_str());
        match named {
            Some("target") => {}
            _ if path.is_dir() => collect(&path, files)?,
            Some(name)
                if [".rs", ".wit", ".toml", ".c", ".h"]
                    .iter()
                    .any(|end| name.ends_with(end)) =>
            {
                files.push(path);
            }
            _ => {}
        }
    }
    Ok(())
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

//! Compiles libtessera into the crate with the C compiler ($CC, else cc): no crate is needed for it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FLAGS: [&str; 9] = [
    "-std=gnu17",
    "-O2",
    "-g",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-strict-aliasing",
    "-ffunction-sections",
    "-D_GNU_SOURCE",
    "-pthread",
];

fn run(command: &mut Command) {
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{command:?}: {status}"),
        Err(error) => panic!("{command:?}: {error}: a C compiler and ar are needed"),
    }
}

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap());
    let out = PathBuf::from(env::var("OUT_DIR").unwrap());
    let cc = env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut objects = Vec::new();
    for folder in ["c", "shm"] {
        println!("cargo:rerun-if-changed={folder}");
        let files = fs::read_dir(root.join(folder)).unwrap_or_else(|error| {
            panic!("{folder}: {error}: build in a clone of the repository")
        });
        for file in files {
            let source = file.unwrap().path();
            if source.extension().map_or(false, |extension| extension == "c") {
                objects.push(compile(&cc, &root, &source, &out.join(folder)));
            }
        }
    }
    objects.sort();
    let archive = out.join("libtessera_bundled.a");
    let _ = fs::remove_file(&archive);
    run(Command::new("ar").arg("crs").arg(&archive).args(&objects));
    write_sizes(&cc, &root, &out);
    println!("cargo:rerun-if-env-changed=CC");
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=static=tessera_bundled");
}

/// The sizes of the header's structs, as assertions on those of `sys`.
fn write_sizes(cc: &str, root: &Path, out: &Path) {
    let header = fs::read_to_string(root.join("c/include/tessera.h")).unwrap();
    let mut text = String::from("#include <stdio.h>\n#include <tessera.h>\nint main(void)\n{\n");
    for line in header.lines() {
        if let Some(name) = line.strip_prefix("struct ").and_then(|line| line.strip_suffix(" {")) {
            let assertion = format!("const _: [(); %zu] = [(); std::mem::size_of::<{name}>()];");
            text += &format!("printf(\"{assertion}\\n\", sizeof(struct {name}));\n");
        }
    }
    let (source, program) = (out.join("sizes.c"), out.join("sizes"));
    fs::write(&source, text + "}\n").unwrap();
    let mut command = Command::new(cc);
    run(command.arg("-I").arg(root.join("c/include")).arg(&source).arg("-o").arg(&program));
    let sizes = Command::new(&program).output().unwrap().stdout;
    fs::write(out.join("sizes.rs"), sizes).unwrap();
}

fn compile(cc: &str, root: &Path, source: &Path, out: &Path) -> PathBuf {
    fs::create_dir_all(out).unwrap();
    let object = out.join(source.file_stem().unwrap()).with_extension("o");
    let mut command = Command::new(cc);
    command.args(FLAGS);
    for folder in ["c", "c/include", "shm", "shm/include"] {
        command.arg("-I").arg(root.join(folder));
    }
    run(command.arg("-c").arg(source).arg("-o").arg(&object));
    object
}

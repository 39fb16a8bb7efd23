//! A real engine with the small model of the repository, which ends with its test. TESSERA_SOURCE and TESSERA_BUILD
//! name the clone and its build.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tessera::{Connect, Engine};

pub struct Daemon {
    folder: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    pub fn start(test: &str) -> Daemon {
        let clone = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let source = env::var_os("TESSERA_SOURCE").map_or(clone, PathBuf::from);
        let build =
            env::var_os("TESSERA_BUILD").map_or(source.join("build/release"), PathBuf::from);
        let folder = env::temp_dir().join(format!("tessera-rust-{}-{test}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut daemon = Daemon { folder, child: None };
        let child = Command::new(build.join("engine/serve/tessera-engine"))
            .arg("--model")
            .arg(source.join("tests/vectors/shell-5m"))
            .arg("--socket")
            .arg(daemon.socket())
            .args(["--kv-bytes", "64M", "--park-seconds", "3600"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("build tessera-engine first");
        let child = daemon.child.insert(child);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with("ready")), "the engine did not start");
        daemon
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("engine.sock")
    }

    pub fn how(&self) -> Connect {
        Connect { path: Some(self.socket()), ..Connect::default() }
    }

    pub fn engine(&self) -> Engine {
        self.how().open().unwrap()
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

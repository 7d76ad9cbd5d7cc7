//! A containerd of its own for one test run: private folders and socket, a busybox image, a network plugin that only hands out addresses.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const IMAGE: &str = "oxi.test/busybox:1";
const PAUSE: &str = "oxi.test/pause:1";

pub struct Containerd {
    pub dir: PathBuf,
    /// Where the pods' cgroups go; removed with the containers.
    pub cgroup: String,
    child: Child,
}

impl Containerd {
    /// Starts it and imports the images. Panics with the cause: a test without a runtime must not pass.
    pub fn start(name: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: it runs containers");
        let own = format!("oxi-kubelet-{name}-{}", std::process::id());
        let dir = Path::new("/tmp").join(&own);
        std::fs::create_dir_all(dir.join("cni/bin")).unwrap();
        std::fs::create_dir_all(dir.join("cni/conf")).unwrap();
        write_cni(&dir);
        std::fs::write(dir.join("config.toml"), config(&dir)).unwrap();
        let log = std::fs::File::create(dir.join("containerd.log")).unwrap();
        let child = Command::new("containerd")
            .args(["--config", &dir.join("config.toml").to_string_lossy()])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd (Debian package containerd) must be installed");
        let this = Self { dir, cgroup: format!("/{own}"), child };
        this.wait_for_socket();
        this.import(IMAGE);
        this.import(PAUSE);
        this
    }

    pub fn endpoint(&self) -> String {
        format!("unix://{}/c.sock", self.dir.display())
    }

    /// The cgroup that this runtime's pods are below; it goes with the runtime.
    pub fn cgroup(&self) -> String {
        format!("/{}", self.dir.file_name().unwrap_or_default().to_string_lossy())
    }

    fn wait_for_socket(&self) {
        for _ in 0..200 {
            let asked = Command::new("ctr").args(["-a", &format!("{}/c.sock", self.dir.display()), "version"]).output().unwrap();
            if asked.status.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("containerd does not answer: {}", std::fs::read_to_string(self.dir.join("containerd.log")).unwrap_or_default());
    }

    pub fn ctr(&self, args: &[&str]) -> String {
        let socket = format!("{}/c.sock", self.dir.display());
        let out = Command::new("ctr").args(["-a", &socket, "-n", "k8s.io"]).args(args).output().unwrap();
        assert!(out.status.success(), "ctr {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn import(&self, name: &str) {
        let file = self.dir.join("image.tar");
        std::fs::write(&file, image(name)).unwrap();
        self.ctr(&["images", "import", &file.to_string_lossy()]);
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let socket = format!("{}/c.sock", self.dir.display());
        let ctr = |args: &[&str]| Command::new("ctr").args(["-a", &socket, "-n", "k8s.io"]).args(args).output();
        if let Ok(list) = ctr(&["tasks", "ls", "-q"]) {
            for id in String::from_utf8_lossy(&list.stdout).lines() {
                drop(ctr(&["tasks", "kill", "-s", "KILL", id]));
            }
            std::thread::sleep(Duration::from_millis(300));
            for id in String::from_utf8_lossy(&list.stdout).lines() {
                drop(ctr(&["tasks", "delete", "-f", id]));
            }
        }
        drop(self.child.kill());
        drop(self.child.wait());
        let namespaces = std::fs::read_to_string(self.dir.join("cni/namespaces")).unwrap_or_default();
        for namespace in namespaces.lines().map(Path::new).filter(|path| path.exists()) {
            drop(host::mounts::unmount(namespace));
            drop(std::fs::remove_file(namespace));
        }
        for _ in 0..20 {
            if host::cgroups::remove(&self.cgroup()).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        for mount in host::mounts::below(&self.dir).unwrap_or_default() {
            drop(host::mounts::unmount(&mount));
        }
        drop(host::cgroups::remove(&self.cgroup));
        if std::env::var_os("OXI_KEEP").is_none() {
            drop(std::fs::remove_dir_all(&self.dir));
        }
    }
}

fn config(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
[grpc]
  address = "{dir}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{dir}/cni/bin"
    conf_dir = "{dir}/cni/conf"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
"#
    )
}

/// Gives each pod an address out of its id and brings the loopback up; there is no network behind it. Lists the namespaces that it saw.
fn write_cni(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let script = r#"#!/bin/sh
case "$CNI_COMMAND" in
VERSION) echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}' ;;
ADD)
  echo "$CNI_NETNS" >> "${0%/bin/*}/namespaces"
  nsenter --net="$CNI_NETNS" ip link set lo up
  last=$(printf '%d' "0x$(echo "$CNI_CONTAINERID" | cut -c1-2)")
  mid=$(printf '%d' "0x$(echo "$CNI_CONTAINERID" | cut -c3-4)")
  echo '{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","sandbox":"'"$CNI_NETNS"'"}],"ips":[{"version":"4","interface":0,"address":"10.'$mid'.0.'$last'/16"}]}' ;;
esac
"#;
    for name in ["loopback", "oxi-test"] {
        let path = dir.join("cni/bin").join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let conf = json!({"cniVersion": "0.4.0", "name": "oxi-test", "plugins": [{"type": "oxi-test"}]});
    std::fs::write(dir.join("cni/conf/10-test.conflist"), conf.to_string()).unwrap();
}

/// An OCI archive with one layer: a static busybox with its applets as links.
fn image(name: &str) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    let busybox = std::fs::read("/usr/bin/busybox").or_else(|_| std::fs::read("/bin/busybox")).expect("busybox-static must be installed");
    for folder in ["bin/", "tmp/", "etc/", "proc/", "dev/", "sys/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if folder == "tmp/" { 0o1777 } else { 0o755 });
        header.set_size(0);
        layer.append_data(&mut header, folder, std::io::empty()).unwrap();
    }
    add(&mut layer, "bin/busybox", &busybox, 0o755);
    add(&mut layer, "etc/passwd", b"root:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/sh\n", 0o644);
    for applet in [
        "sh", "sleep", "cat", "ls", "echo", "env", "id", "stat", "grep", "touch", "httpd", "nc", "wget", "hostname", "mount", "head",
        "true", "false", "kill", "ps", "date",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let config = json!({"architecture": kubelet::node::info::architecture(), "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "1000000"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    let config = config.to_string().into_bytes();
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", &config),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar", &layer)]});
    let manifest = manifest.to_string().into_bytes();
    let mut entry = blob("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let mut out = tar::Builder::new(Vec::new());
    add(&mut out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644);
    add(&mut out, "index.json", index.as_bytes(), 0o644);
    for bytes in [&layer, &config, &manifest] {
        add(&mut out, &format!("blobs/{}", digest(bytes).replace(':', "/")), bytes, 0o644);
    }
    out.into_inner().unwrap()
}

fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, path, bytes).unwrap();
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn blob(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

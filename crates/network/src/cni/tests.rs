//! The plugin without the kernel: versions, errors, names.

use serde_json::Value;

use super::*;

fn call(command: &str, stdin: &str) -> (i32, Value) {
    let env = Env { command: command.into(), container_id: "c1".into(), netns: "/nowhere".into(), ifname: "eth0".into() };
    let (code, output) = main(&env, stdin.as_bytes());
    (code, serde_json::from_str(&output).unwrap_or(Value::Null))
}

#[test]
fn version_lists_what_is_supported() {
    let (code, output) = call("VERSION", r#"{"cniVersion":"1.0.0"}"#);
    assert_eq!(code, 0);
    assert_eq!(output, json!({"cniVersion": "1.0.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}));
}

#[test]
fn bad_input_is_an_error_with_the_specified_code() {
    let check = |command: &str, stdin: &str, code: u32| {
        let (exit, output) = call(command, stdin);
        assert_eq!((exit, output["code"].as_u64()), (1, Some(u64::from(code))), "{command} {stdin}: {output}");
        assert!(output["cniVersion"].is_string() && output["msg"].is_string(), "{output}");
    };
    check("ADD", "{", code::DECODE);
    check("ADD", r#"{"name":"n","type":"oxikube"}"#, code::INCOMPATIBLE_VERSION);
    check("ADD", r#"{"cniVersion":"2.0.0","name":"n","type":"oxikube"}"#, code::INCOMPATIBLE_VERSION);
    check("ADD", r#"{"cniVersion":"1.0.0","name":"../n","type":"oxikube"}"#, code::INVALID_CONFIG);
    check("ADD", r#"{"cniVersion":"1.0.0","name":"n","type":"oxikube"}"#, code::INVALID_CONFIG);
    check("ADD", r#"{"cniVersion":"1.0.0","name":"n","type":"oxikube","subnets":["x"]}"#, code::INVALID_CONFIG);
    check("STATUS", r#"{"cniVersion":"1.1.0","name":"n","type":"oxikube"}"#, code::NOT_AVAILABLE);
    check("GC", r#"{"cniVersion":"1.1.0","name":"n","type":"oxikube"}"#, code::INVALID_CONFIG);
    check("WHAT", r#"{"cniVersion":"1.1.0","name":"n","type":"oxikube"}"#, code::INVALID_ENVIRONMENT);
}

#[test]
fn names_from_the_runtime_are_checked() {
    let check = |id: &str, ifname: &str, valid: bool| {
        assert_eq!(config::valid_attachment(id, ifname).is_ok(), valid, "{id} {ifname}");
    };
    check("abc-1.2_3", "eth0", true);
    check("", "eth0", false);
    check("../x", "eth0", false);
    check("a", "", false);
    check("a", "..", false);
    check("a", "an-interface-name", false);
    check("a", "a/b", false);
}

#[test]
fn results_differ_by_version() {
    let print = |version| {
        let interface = result::Interface { name: "eth0", mac: host::Mac([2, 0, 0, 0, 0, 1]), mtu: 1500, sandbox: "/ns" };
        let ip = result::Ip { address: "10.0.0.2/32".parse().unwrap(), gateway: "10.0.0.1".parse().ok(), interface: 0 };
        let text = result::print(version, &[interface], &[ip], &[("0.0.0.0/0".parse().unwrap(), "10.0.0.1".parse().unwrap())]);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let routes = json!([{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}]);
    assert_eq!(
        print("0.4.0"),
        json!({"cniVersion": "0.4.0", "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/ns"}],
            "ips": [{"version": "4", "interface": 0, "address": "10.0.0.2/32", "gateway": "10.0.0.1"}], "routes": routes, "dns": {}})
    );
    assert_eq!(
        print("1.1.0"),
        json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1500, "sandbox": "/ns"}],
            "ips": [{"interface": 0, "address": "10.0.0.2/32", "gateway": "10.0.0.1"}], "routes": routes, "dns": {}})
    );
}

#[test]
fn installing_leaves_a_foreign_loopback() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("loopback"), "another").unwrap();
    let made = install(dir.path(), Path::new("/usr/bin/oxikube")).unwrap();
    assert_eq!(made, [dir.path().join("oxikube")]);
    assert_eq!(install(dir.path(), Path::new("/usr/bin/oxikube")).unwrap(), [] as [PathBuf; 0]);
}

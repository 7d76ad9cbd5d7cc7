//! Manifests that several tests use.

pub const HELLO: &str = include_str!("../../../../../examples/hello.yaml");

/// A pod of one container that sleeps; `extra` is YAML for its spec, indented by two.
pub fn sleeper(name: &str, extra: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  terminationGracePeriodSeconds: 0\n{extra}\n  containers:\n  - name: main\n    image: oxikube.io/busybox:1\n    command: [sleep, infinity]\n"
    )
}

/// A pod that runs a shell script; `extra` is YAML for its container, indented by four.
pub fn script(name: &str, script: &str, policy: &str, extra: &str) -> String {
    let script = serde_json::Value::from(script);
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  terminationGracePeriodSeconds: 1\n  restartPolicy: {policy}\n  containers:\n  - name: main\n    image: oxikube.io/busybox:1\n    command: [sh, -c, {script}]\n{extra}\n"
    )
}

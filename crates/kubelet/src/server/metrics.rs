//! Metrics in Prometheus' text, by upstream's names. Pure but for reading counters.

use serde_json::Value;

use super::stats::Summary;
use crate::context::Context;
use crate::node::info::KUBELET_VERSION;
use crate::pods::Workers;

/// One family: help, type, samples of (labels, value).
fn family(out: &mut String, name: &str, kind: &str, help: &str, samples: &[(String, f64)]) {
    out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    for (labels, value) in samples {
        match labels.is_empty() {
            true => out.push_str(&format!("{name} {value}\n")),
            false => out.push_str(&format!("{name}{{{labels}}} {value}\n")),
        }
    }
}

fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn labels(pairs: &[(&str, &str)]) -> String {
    pairs.iter().map(|(name, value)| label(name, value)).collect::<Vec<_>>().join(",")
}

/// `/metrics`: the kubelet itself.
pub fn own(context: &Context, workers: &Workers) -> String {
    let mut out = String::new();
    let all = workers.all();
    let with_sandbox = all.iter().filter(|shared| shared.runtime().ready_sandbox().is_some()).count();
    let mut states = [("created", 0.0), ("exited", 0.0), ("running", 0.0), ("unknown", 0.0)];
    for shared in &all {
        for record in &shared.runtime().containers {
            let index = match record.state {
                crate::runtime::State::Created => 0,
                crate::runtime::State::Exited => 1,
                crate::runtime::State::Running => 2,
                crate::runtime::State::Unknown => 3,
            };
            states[index].1 += 1.0;
        }
    }
    let containers = states.map(|(state, count)| (label("container_state", state), count));
    family(
        &mut out,
        "kubelet_running_pods",
        "gauge",
        "Number of pods that have a running pod sandbox",
        &[(String::new(), with_sandbox as f64)],
    );
    family(&mut out, "kubelet_running_containers", "gauge", "Number of containers currently running", &containers);
    family(
        &mut out,
        "kubelet_desired_pods",
        "gauge",
        "The number of pods the kubelet is being instructed to run",
        &[(label("static", ""), all.len() as f64)],
    );
    family(
        &mut out,
        "kubelet_node_name",
        "gauge",
        "The node's name. The count is always 1.",
        &[(label("node", &context.settings.node_name), 1.0)],
    );
    let build = labels(&[("git_version", KUBELET_VERSION), ("platform", "linux/amd64")]);
    family(&mut out, "kubernetes_build_info", "gauge", "The version of this component.", &[(build, 1.0)]);
    let memory =
        std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<f64>().ok()).unwrap_or(0.0);
    family(&mut out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", &[(String::new(), memory * 4096.0)]);
    out
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// `/metrics/resource` (pkg/kubelet/metrics/collectors/resource_metrics.go).
pub fn resource(summary: &Summary) -> String {
    let (mut container_cpu, mut container_memory, mut pod_cpu, mut pod_memory, mut started) = (vec![], vec![], vec![], vec![], vec![]);
    for pod in &summary.pods {
        let (name, namespace) = (pod.pod_ref["name"].as_str().unwrap_or_default(), pod.pod_ref["namespace"].as_str().unwrap_or_default());
        let of_pod = labels(&[("namespace", namespace), ("pod", name)]);
        pod_cpu.push((of_pod.clone(), number(&pod.cpu["usageCoreNanoSeconds"]) / 1e9));
        pod_memory.push((of_pod, number(&pod.memory["workingSetBytes"])));
        for container in &pod.containers {
            let of_container = labels(&[("container", &container.name), ("namespace", namespace), ("pod", name)]);
            container_cpu.push((of_container.clone(), number(&container.cpu["usageCoreNanoSeconds"]) / 1e9));
            container_memory.push((of_container.clone(), number(&container.memory["workingSetBytes"])));
            if let Ok(at) = container.start_time.parse::<jiff::Timestamp>() {
                started.push((of_container, at.as_second() as f64));
            }
        }
    }
    let node = |value: f64| [(String::new(), value)];
    let node_cpu = node(number(&summary.node["cpu"]["usageCoreNanoSeconds"]) / 1e9);
    let node_memory = node(number(&summary.node["memory"]["workingSetBytes"]));
    let mut out = String::new();
    let cpu_help = "Cumulative cpu time consumed in core-seconds";
    let memory_help = "Current working set in bytes";
    family(&mut out, "container_cpu_usage_seconds_total", "counter", cpu_help, &container_cpu);
    family(&mut out, "container_memory_working_set_bytes", "gauge", memory_help, &container_memory);
    family(&mut out, "container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds", &started);
    family(&mut out, "node_cpu_usage_seconds_total", "counter", cpu_help, &node_cpu);
    family(&mut out, "node_memory_working_set_bytes", "gauge", memory_help, &node_memory);
    family(&mut out, "pod_cpu_usage_seconds_total", "counter", cpu_help, &pod_cpu);
    family(&mut out, "pod_memory_working_set_bytes", "gauge", memory_help, &pod_memory);
    family(&mut out, "resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise", &node(0.0));
    out
}

/// `/metrics/cadvisor`: the families that dashboards and the metrics server need.
pub fn cadvisor(summary: &Summary) -> String {
    let (mut cpu, mut memory, mut usage) = (vec![], vec![], vec![]);
    for pod in &summary.pods {
        for container in &pod.containers {
            let text = |field: &str| pod.pod_ref[field].as_str().unwrap_or_default();
            let of = labels(&[("container", &container.name), ("namespace", text("namespace")), ("pod", text("name"))]);
            cpu.push((format!("{of},cpu=\"total\""), number(&container.cpu["usageCoreNanoSeconds"]) / 1e9));
            memory.push((of.clone(), number(&container.memory["workingSetBytes"])));
            usage.push((of, number(&container.memory["usageBytes"])));
        }
    }
    let mut out = String::new();
    family(&mut out, "container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", &cpu);
    family(&mut out, "container_memory_working_set_bytes", "gauge", "Current working set in bytes.", &memory);
    family(
        &mut out,
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        &usage,
    );
    out
}

/// `/metrics/probes`.
pub fn probes(context: &Context) -> String {
    let mut samples: Vec<(String, f64)> =
        context.probe_totals.lock().iter().map(|(labels, count)| (labels.clone(), *count as f64)).collect();
    samples.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = String::new();
    let help = "Cumulative number of a liveness, readiness or startup probe for a container by result.";
    family(&mut out, "prober_probe_total", "counter", help, &samples);
    out
}

/// The labels under which one probe attempt is counted.
pub fn probe_labels(kind: &str, result: &str, pod: &api::core::v1::Pod, container: &str) -> String {
    labels(&[
        ("container", container),
        ("namespace", crate::pod::namespace(pod)),
        ("pod", crate::pod::name(pod)),
        ("pod_uid", crate::pod::uid(pod)),
        ("probe_type", kind),
        ("result", result),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_format() {
        let mut out = String::new();
        family(&mut out, "a_total", "counter", "Help.", &[(label("x", "q\"\\"), 1.5), (String::new(), 2.0)]);
        assert_eq!(out, "# HELP a_total Help.\n# TYPE a_total counter\na_total{x=\"q\\\"\\\\\"} 1.5\na_total 2\n");
    }
}

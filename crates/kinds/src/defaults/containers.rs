//! Defaults of containers.

use api::core::v1::{Container, ContainerPort, EnvVar, EphemeralContainer, HTTPGetAction, Probe};

use super::{resource_list, set, set_text};

pub fn container(container: &mut Container) {
    set_text(&mut container.image_pull_policy, pull_policy(container.image.as_deref().unwrap_or_default()));
    set_text(&mut container.termination_message_path, "/dev/termination-log");
    set_text(&mut container.termination_message_policy, "File");
    let resources = container.resources.get_or_insert_default();
    resource_list(&mut resources.limits);
    resource_list(&mut resources.requests);
    ports(container.ports.as_deref_mut());
    env(container.env.as_deref_mut());
    for probe in [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe] {
        self::probe(probe.as_mut());
    }
    if let Some(lifecycle) = &mut container.lifecycle {
        for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
            http_get(handler.http_get.as_mut());
        }
    }
}

pub fn ephemeral(container: &mut EphemeralContainer) {
    set_text(&mut container.image_pull_policy, pull_policy(container.image.as_deref().unwrap_or_default()));
    set_text(&mut container.termination_message_path, "/dev/termination-log");
    set_text(&mut container.termination_message_policy, "File");
    container.resources.get_or_insert_default();
    env(container.env.as_deref_mut());
}

/// Images whose tag moves are pulled each time.
pub fn pull_policy(image: &str) -> &'static str {
    let is_latest = match image.contains('@') {
        true => image.split('@').next().and_then(tag) == Some("latest"),
        false => tag(image).is_none_or(|tag| tag == "latest"),
    };
    if is_latest { "Always" } else { "IfNotPresent" }
}

/// The part after the colon of the last path segment.
fn tag(image: &str) -> Option<&str> {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').map(|(_, tag)| tag)
}

fn ports(ports: Option<&mut [ContainerPort]>) {
    for port in ports.into_iter().flatten() {
        set_text(&mut port.protocol, "TCP");
    }
}

fn env(vars: Option<&mut [EnvVar]>) {
    for source in vars.into_iter().flatten().filter_map(|var| var.value_from.as_mut()) {
        if let Some(field) = &mut source.field_ref {
            set_text(&mut field.api_version, "v1");
        }
        if let Some(field) = &mut source.resource_field_ref {
            super::volumes::divisor(&mut field.divisor);
        }
        if let Some(field) = &mut source.file_key_ref {
            set(&mut field.optional, false);
        }
    }
}

fn probe(probe: Option<&mut Probe>) {
    let Some(probe) = probe else { return };
    let set_number = |field: &mut Option<i32>, value| {
        if field.unwrap_or(0) == 0 {
            *field = Some(value);
        }
    };
    set_number(&mut probe.timeout_seconds, 1);
    set_number(&mut probe.period_seconds, 10);
    set_number(&mut probe.success_threshold, 1);
    set_number(&mut probe.failure_threshold, 3);
    http_get(probe.http_get.as_mut());
    if let Some(grpc) = &mut probe.grpc {
        set(&mut grpc.service, String::new());
    }
}

fn http_get(action: Option<&mut HTTPGetAction>) {
    if let Some(action) = action {
        set_text(&mut action.path, "/");
        set_text(&mut action.scheme, "HTTP");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies() {
        for (image, expected) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("host:5000/nginx", "Always"),
            ("host:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
            ("nginx:latest@sha256:0123", "Always"),
            ("host:5000/nginx@sha256:0123", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), expected, "{image}");
        }
    }
}

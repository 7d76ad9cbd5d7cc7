//! Rules on probes and lifecycle hooks.

use api::core::v1::{Container, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, TCPSocketAction};
use api::{FieldErrors, Path, names};

use super::{POSITIVE, each, each_int, not_negative_opt, one_of, port};

/// The probes and the lifecycle of a container. `sidecar` init containers may have them as main ones do.
pub fn container(errors: &mut FieldErrors, path: &Path, container: &Container, grace_seconds: Option<i64>) {
    if let Some(lifecycle) = &container.lifecycle {
        self::lifecycle(errors, &path.child("lifecycle"), lifecycle, grace_seconds);
    }
    for (name, probe) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        let Some(probe) = probe else { continue };
        let path = path.child(name);
        self::probe(errors, &path, probe);
        if name == "readinessProbe" {
            if probe.termination_grace_period_seconds.is_some() {
                let value = probe.termination_grace_period_seconds.unwrap_or_default();
                errors.invalid(&path.child("terminationGracePeriodSeconds"), value, "must not be set for readinessProbes");
            }
        } else if probe.success_threshold.is_some_and(|threshold| threshold != 1) {
            errors.invalid(&path.child("successThreshold"), probe.success_threshold.unwrap_or_default(), "must be 1");
        }
    }
}

fn probe(errors: &mut FieldErrors, path: &Path, probe: &Probe) {
    let mut handlers = Handlers { path, found: 0 };
    if let Some(action) = &probe.exec {
        handlers.exec(errors, action);
    }
    if let Some(action) = &probe.http_get {
        handlers.http_get(errors, action);
    }
    if let Some(action) = &probe.tcp_socket {
        handlers.tcp_socket(errors, action);
    }
    if let Some(action) = &probe.grpc
        && handlers.first(errors, "grpc")
    {
        each_int(errors, &path.child("grpc").child("port"), i64::from(action.port), names::port_number(action.port));
    }
    handlers.finish(errors);
    not_negative_opt(errors, &path.child("initialDelaySeconds"), probe.initial_delay_seconds);
    not_negative_opt(errors, &path.child("timeoutSeconds"), probe.timeout_seconds);
    not_negative_opt(errors, &path.child("periodSeconds"), probe.period_seconds);
    not_negative_opt(errors, &path.child("successThreshold"), probe.success_threshold);
    not_negative_opt(errors, &path.child("failureThreshold"), probe.failure_threshold);
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|seconds| *seconds <= 0) {
        errors.invalid(&path.child("terminationGracePeriodSeconds"), seconds, POSITIVE);
    }
}

fn lifecycle(errors: &mut FieldErrors, path: &Path, lifecycle: &Lifecycle, grace_seconds: Option<i64>) {
    for (name, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(handler) = handler {
            lifecycle_handler(errors, &path.child(name), handler, grace_seconds);
        }
    }
}

fn lifecycle_handler(errors: &mut FieldErrors, path: &Path, handler: &LifecycleHandler, grace_seconds: Option<i64>) {
    let mut handlers = Handlers { path, found: 0 };
    if let Some(action) = &handler.exec {
        handlers.exec(errors, action);
    }
    if let Some(action) = &handler.http_get {
        handlers.http_get(errors, action);
    }
    if let Some(action) = &handler.tcp_socket {
        handlers.tcp_socket(errors, action);
    }
    if let Some(action) = &handler.sleep
        && handlers.first(errors, "sleep")
        && let Some(grace) = grace_seconds
        && !(0..=grace).contains(&action.seconds)
    {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.invalid(&path.child("sleep"), action.seconds, &detail);
    }
    handlers.finish(errors);
}

/// Counts the handlers: there must be exactly one.
struct Handlers<'a> {
    path: &'a Path,
    found: usize,
}

impl Handlers<'_> {
    fn first(&mut self, errors: &mut FieldErrors, name: &str) -> bool {
        self.found += 1;
        if self.found > 1 {
            errors.forbidden(&self.path.child(name), "may not specify more than 1 handler type");
        }
        self.found == 1
    }

    fn finish(self, errors: &mut FieldErrors) {
        if self.found == 0 {
            errors.required(self.path, "must specify a handler type");
        }
    }

    fn exec(&mut self, errors: &mut FieldErrors, action: &ExecAction) {
        if self.first(errors, "exec") && action.command.as_ref().is_none_or(Vec::is_empty) {
            errors.required(&self.path.child("exec").child("command"), "");
        }
    }

    fn http_get(&mut self, errors: &mut FieldErrors, action: &HTTPGetAction) {
        if !self.first(errors, "httpGet") {
            return;
        }
        let path = self.path.child("httpGet");
        if action.path.as_deref().unwrap_or_default().is_empty() {
            errors.required(&path.child("path"), "");
        }
        port(errors, &path.child("port"), &action.port);
        one_of(errors, &path.child("scheme"), action.scheme.as_deref(), &["HTTP", "HTTPS"]);
        for header in action.http_headers.iter().flatten() {
            each(errors, &path.child("httpHeaders"), &header.name, names::http_header_name(&header.name));
        }
    }

    fn tcp_socket(&mut self, errors: &mut FieldErrors, action: &TCPSocketAction) {
        if self.first(errors, "tcpSocket") {
            port(errors, &self.path.child("tcpSocket").child("port"), &action.port);
        }
    }
}

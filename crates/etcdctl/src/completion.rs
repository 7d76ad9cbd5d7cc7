//! `completion`: scripts that let shells complete commands and flags, made from the command tree. The shell's own files stay untouched.

use clap::Command;

use crate::flags::{command, group};

pub fn completion_command() -> Command {
    let members = vec![
        command("bash", "bash", "Generate the autocompletion script for bash"),
        command("zsh", "zsh", "Generate the autocompletion script for zsh"),
        command("fish", "fish", "Generate the autocompletion script for fish"),
        command("powershell", "powershell", "Generate the autocompletion script for powershell"),
    ];
    group("completion", "completion", "Generate completion script", members)
}

/// Each command's path with the words that may follow it.
fn follow_ups(root: &Command) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let global: Vec<String> = flags(root);
    collect(root, "", &global, &mut found);
    found
}

fn collect(command: &Command, path: &str, global: &[String], found: &mut Vec<(String, Vec<String>)>) {
    let members: Vec<&Command> = command.get_subcommands().filter(|member| !member.is_hide_set()).collect();
    let mut words: Vec<String> = members.iter().map(|member| member.get_name().to_owned()).collect();
    words.extend(flags(command));
    words.extend(global.iter().cloned());
    words.sort();
    words.dedup();
    found.push((path.to_owned(), words));
    for member in members {
        let path = if path.is_empty() { member.get_name().to_owned() } else { format!("{path} {}", member.get_name()) };
        collect(member, &path, global, found);
    }
}

fn flags(command: &Command) -> Vec<String> {
    command.get_arguments().filter_map(|arg| arg.get_long()).map(|name| format!("--{name}")).collect()
}

pub fn script(root: &Command, shell: &str) -> String {
    let name = root.get_name().to_owned();
    let rows = follow_ups(root);
    match shell {
        "fish" => fish(&name, &rows),
        "powershell" => powershell(&name, &rows),
        "zsh" => format!("#compdef {name}\nautoload -U +X bashcompinit && bashcompinit\n{}", bash(&name, &rows)),
        _ => bash(&name, &rows),
    }
}

fn bash(name: &str, rows: &[(String, Vec<String>)]) -> String {
    let cases: String = rows.iter().map(|(path, words)| format!("        \"{path}\") words=\"{}\" ;;\n", words.join(" "))).collect();
    format!(
        "_{name}() {{\n    local path=\"\" word words=\"\"\n    for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n        \
         case \"$word\" in -*) ;; *) path=\"${{path:+$path }}$word\" ;; esac\n    done\n    case \"$path\" in\n{cases}    esac\n    \
         COMPREPLY=($(compgen -W \"$words\" -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n}}\ncomplete -o default -F _{name} {name}\n"
    )
}

fn fish(name: &str, rows: &[(String, Vec<String>)]) -> String {
    let mut out = format!("function __{name}_path\n    string join ' ' (string match -v -- '-*' (commandline -opc)[2..-1])\nend\n");
    for (path, words) in rows {
        out.push_str(&format!("complete -c {name} -n 'test (__{name}_path) = \"{path}\"' -a '{}'\n", words.join(" ")));
    }
    out
}

fn powershell(name: &str, rows: &[(String, Vec<String>)]) -> String {
    let cases: String = rows.iter().map(|(path, words)| format!("        '{path}' {{ '{}' }}\n", words.join(" "))).collect();
    format!(
        "Register-ArgumentCompleter -Native -CommandName {name} -ScriptBlock {{\n    param($word, $ast, $position)\n    \
         $path = ($ast.CommandElements | Select-Object -Skip 1 | ForEach-Object {{ \"$_\" }} | Where-Object {{ $_ -notlike '-*' -and $_ -ne $word }}) -join ' '\n    \
         $words = switch ($path) {{\n{cases}    }}\n    $words -split ' ' | Where-Object {{ $_ -like \"$word*\" }}\n}}\n"
    )
}

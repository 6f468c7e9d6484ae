//! Names as short as can be: a file of a few thousand weights consists of names for a tenth.

use std::collections::HashMap;

use crate::proto::{ModelProto, NodeProto};

/// Numbers the values inside the graph and takes the names of nodes away, but those of layers (`Conv`, `Gemm`). Input and
/// output keep their names. What is computed stays the same, in a graph that has no graphs in it.
pub fn strip(model: &mut ModelProto) {
    let Some(graph) = model.graph.as_mut() else { return };
    // What is known of values by their old names.
    graph.value_info.clear();
    let outlets = graph.input.iter().chain(&graph.output).map(|outlet| outlet.name().to_owned());
    let mut names: HashMap<String, String> = outlets.map(|name| (name.clone(), name)).collect();
    let mut count = 0;
    let mut shorten = |name: &mut String| {
        // What is left out has no name.
        if name.is_empty() {
            return;
        }
        if let Some(short) = names.get(name) {
            name.clone_from(short);
            return;
        }
        let short = loop {
            count += 1;
            let short = numeral(count);
            if !names.contains_key(&short) {
                break short;
            }
        };
        *name = names.entry(std::mem::take(name)).or_insert(short).clone();
    };
    for constant in &mut graph.initializer {
        let mut name = constant.name().to_owned();
        shorten(&mut name);
        constant.name = Some(name);
    }
    for node in &mut graph.node {
        if !matches!(node.op_type(), "Conv" | "Gemm") {
            node.name = None;
        }
        node.input.iter_mut().chain(&mut node.output).for_each(&mut shorten);
    }
}

/// What a node is called in messages: its name, or that of its first output.
pub fn label(node: &NodeProto) -> &str {
    match node.name() {
        "" => node.output.first().map_or("", String::as_str),
        name => name,
    }
}

/// A number from 1 on in letters: a … z, aa, ab, …
fn numeral(mut number: usize) -> String {
    let mut letters = Vec::new();
    while number > 0 {
        number -= 1;
        letters.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
    }
    letters.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::GraphProto;
    use crate::{float_tensor, float_value, model, node};

    #[test]
    fn values_are_numbered_and_what_is_outside_keeps_its_name() {
        let graph = GraphProto {
            // One of the outlets has a name that a number would have.
            node: vec![
                node("Conv", &["a", "features.0.weight", ""], &["features.0"]),
                node("Clip", &["features.0", "zero"], &["features.0.clipped"]),
                node("Identity", &["features.0.clipped"], &["logit"]),
            ],
            initializer: vec![float_tensor("features.0.weight", &[1], &[1.0]), float_tensor("zero", &[], &[0.0])],
            input: vec![float_value("a", &[1])],
            output: vec![float_value("logit", &[1])],
            ..Default::default()
        };
        let mut stripped = model(graph);
        strip(&mut stripped);
        let graph = stripped.graph.unwrap();
        let constants: Vec<&str> = graph.initializer.iter().map(|constant| constant.name()).collect();
        assert_eq!(constants, ["b", "c"]);
        let wiring: Vec<_> =
            graph.node.iter().map(|node| (label(node), node.input.join(" "), &node.output[0])).collect();
        let expected = [("features.0", "a b ", "d"), ("e", "d c", "e"), ("logit", "e", "logit")];
        for ((found, inputs, output), expected) in wiring.iter().zip(expected) {
            assert_eq!((*found, inputs.as_str(), output.as_str()), expected);
        }
    }

    #[test]
    fn numerals_go_on_behind_z() {
        assert_eq!([1, 26, 27, 52, 53, 702, 703].map(numeral), ["a", "z", "aa", "az", "ba", "zz", "aaa"]);
    }
}

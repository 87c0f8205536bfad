//! What is made of a stream's events, with trees.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

type Object = Map<String, Value>;

const TEXTS: [&str; 5] = ["content", "text", "reasoning", "reasoning_content", "refusal"];

/// Members of a choice, and of its message.
type Choices = BTreeMap<u64, (Object, Object)>;

/// The answer in the form of `template`; `None` where there can be none.
pub(crate) fn assembled(events: &[Value], template: &Value) -> Option<Value> {
    let mut answer = Object::new();
    let mut choices = Choices::new();
    for event in events {
        let event = event.as_object()?;
        if event.get("error").is_some_and(|error| !error.is_null())
            || event.get("object").is_some_and(|name| name == "error")
        {
            return None;
        }
        for (key, value) in event {
            match value {
                Value::Array(items) if key == "choices" => {
                    items.iter().try_for_each(|choice| add_choice(choice, &mut choices))?;
                }
                value if !value.is_null() => {
                    answer.insert(key.clone(), value.clone());
                }
                _ => {}
            }
        }
    }
    if choices.is_empty() {
        return None;
    }
    let shape = template["choices"][0].as_object()?;
    let choices = choices.into_values().map(|(mut members, message)| {
        let message = filled(&shape["message"], &message);
        members.insert("message".to_owned(), message);
        filled(&Value::Object(shape.clone()), &members)
    });
    answer.insert("choices".to_owned(), choices.collect());
    Some(filled(template, &answer))
}

fn add_choice(choice: &Value, choices: &mut Choices) -> Option<()> {
    let choice = choice.as_object()?;
    let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
    let (members, message) = choices.entry(index).or_default();
    for (key, value) in choice {
        match value {
            Value::Object(delta) if key == "delta" || key == "message" => {
                delta.iter().try_for_each(|(key, value)| add(key, value, message))?;
            }
            value => add(key, value, members)?,
        }
    }
    Some(())
}

fn add(key: &str, value: &Value, members: &mut Object) -> Option<()> {
    if value.is_null() {
        return Some(());
    }
    if TEXTS.contains(&key) {
        let before = members.get(key).and_then(Value::as_str).unwrap_or_default();
        let text = format!("{before}{}", value.as_str()?);
        members.insert(key.to_owned(), Value::String(text));
    } else {
        members.insert(key.to_owned(), value.clone());
    }
    Some(())
}

fn filled(template: &Value, told: &Object) -> Value {
    let shape = template.as_object().unwrap();
    let mut out = Object::new();
    for (key, value) in shape {
        let told_value = told.get(key).cloned();
        let value = match (value, told_value) {
            _ if key == "choices" || key == "message" => told[key].clone(),
            (Value::Object(_), None) => Value::Null,
            (Value::Object(_), Some(Value::Object(members))) => {
                let members = members.into_iter().filter(|(_, value)| !value.is_null()).collect();
                filled(value, &members)
            }
            (Value::Object(_), Some(other)) => other,
            (Value::Null, Some(other)) if !gave_way(key, told) => other,
            (Value::String(text), Some(other)) if text.is_empty() => other,
            (value, _) => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    for (key, value) in told {
        if !shape.contains_key(key) {
            out.insert(key.clone(), value.clone());
        }
    }
    Value::Object(out)
}

fn gave_way(key: &str, told: &Object) -> bool {
    let text = |key: &str| told.get(key).filter(|_| TEXTS.contains(&key)).and_then(Value::as_str);
    text(key) == Some("")
        && TEXTS.iter().any(|other| text(other).is_some_and(|text| !text.is_empty()))
}

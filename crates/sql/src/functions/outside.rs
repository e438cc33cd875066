//! Functions that ask the cloud. They are parsed, so that a rule is accepted as it is; a message
//! that needs the answer fails with a sentence, unless `get_or_default()` stands around it.

use super::Arguments;
use crate::EvalError;
use crate::eval::Context;
use crate::value::Value;

type Out<'a> = Result<Value<'a>, EvalError>;

macro_rules! not_bound {
    ($($name:ident asks $whom:literal),* $(,)?) => {
        $(pub(super) fn $name<'a>(_: &Context<'a>, _: Arguments<'a>) -> Out<'a> {
            Err(EvalError::NotBound(stringify!($name), $whom))
        })*
    };
}

not_bound! {
    aws_lambda asks "AWS Lambda",
    get_dynamodb asks "Amazon DynamoDB",
    get_secret asks "AWS Secrets Manager",
    machinelearning_predict asks "Amazon Machine Learning",
}

/// `get_registry_data(api, thing, role)`: what the API of that name says of a thing. The role has
/// no meaning here, but its place must be filled as in AWS IoT.
pub(super) fn get_registry_data<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let Some([Value::Text(api), Value::Text(thing), Value::Text(_role)]) = arguments.exactly()
    else {
        return Ok(Value::Undefined);
    };
    context.charge(1000)?;
    match &*api {
        "DescribeThing" => {
            let found = context.input.host.thing(&thing);
            Ok(found.map_or(Value::Undefined, Value::owned))
        }
        "ListThingGroupsForThing" => Err(EvalError::NotBound(
            "get_registry_data",
            "the registry for thing groups",
        )),
        _ => Ok(Value::Undefined),
    }
}

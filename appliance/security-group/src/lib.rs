//! Security group rules: the model, the compiler to a ruleset and the reference evaluator

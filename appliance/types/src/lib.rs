//! Vocabulary: typed ids, byte and sector counts, money and time

"""What information gain is made of: answers, beliefs of models, and exact beliefs of embedded worlds."""

"""How the models in the box (``halbert/models/``) are made: texts, vocabularies, trainings, scores, cards."""

"""SecondRead's rooms without a face: images, models, evaluation, records, reports."""

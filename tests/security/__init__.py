"""Tests of rules, users and who may do what."""

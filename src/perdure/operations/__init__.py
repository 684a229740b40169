"""Operations: was this request done already, and what was the answer?"""
